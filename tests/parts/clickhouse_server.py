"""A real ClickHouse server: Debian's, of 2018, so for the wire and for what has not changed since."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import clickhouse_driver

from mixer_py.demo.processes import Ports
from mixer_py.telemetry.settings import ServerTarget

PASSWORD = "word"

_CONFIGURATION = """<yandex>
  <logger><level>warning</level><console>1</console></logger>
  <tcp_port>{port}</tcp_port><listen_host>127.0.0.1</listen_host>
  <path>{path}/data/</path><tmp_path>{path}/tmp/</tmp_path><user_files_path>{path}/files/</user_files_path>
  <mark_cache_size>5368709120</mark_cache_size>
  <users>
    <default><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
    <quota>default</quota></default>
  </users>
  <profiles><default><allow_experimental_low_cardinality_type>1</allow_experimental_low_cardinality_type></default></profiles>
  <quotas><default/></quotas>
  <users_config>{path}/config.xml</users_config><default_profile>default</default_profile>
</yandex>"""


class ClickHouseServer:
    """A ClickHouse server on a port of its own."""

    def __init__(self, ports: Ports, folder: Path) -> None:
        """Prepares it.

        Args:
            ports: where its own comes from.
            folder: holds its data, and what else it is to read, in `config.d`.
        """
        self.target = ServerTarget("127.0.0.1", ports.take(), "default", "mesh", secure=False)
        (folder / "config.xml").write_text(_CONFIGURATION.format(port=self.target.port, password=PASSWORD, path=folder))
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        command = [shutil.which("clickhouse-server") or "clickhouse-server", f"--config-file={self._folder}/config.xml"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        for _ in range(600):
            try:
                socket.create_connection((self.target.host, self.target.port), 1).close()
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server does not listen")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it as a lost machine would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """What it answers, row by row."""
        with clickhouse_driver.Client(self.target.host, self.target.port, password=PASSWORD) as client:
            rows: list[tuple[object, ...]] = client.execute(sql)
        return rows
