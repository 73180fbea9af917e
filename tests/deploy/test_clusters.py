"""Clusters for those who outgrow one machine: their files fit together, and limits count on a real Valkey cluster."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.demo.processes import Ports
from tests.deploy.objects import Document
from tests.parts.clickhouse_server import ClickHouseServer
from tests.parts.go_modules import module_folder
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Cluster

CLICKHOUSE = ROOT / "deploy" / "clickhouse-cluster"
VALKEY = ROOT / "deploy" / "valkey-cluster"


def read(path: Path) -> Document:
    found: Document = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return found


@pytest.mark.describing_modules
@pytest.mark.parametrize("folder", [CLICKHOUSE, VALKEY], ids=lambda folder: folder.name)
def test_compose_takes_its_file_and_every_file_that_it_mounts_is_there(folder: Path):
    schema = read(module_folder("github.com/compose-spec/compose-go/v2") / "schema" / "compose-spec.json")
    compose = read(folder / "compose.yaml")
    assert [fault.message for fault in jsonschema.Draft202012Validator(schema).iter_errors(compose)] == []
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = str(volume).partition(":")[0]
            if source.startswith("."):
                assert (folder / source).exists(), source
            else:
                assert source in compose["volumes"]
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()


def test_the_clickhouse_servers_of_compose_are_those_of_the_cluster_that_mixer_names():
    compose, mixer = read(CLICKHOUSE / "compose.yaml"), read(CLICKHOUSE / "mixer.yaml")
    cluster = ET.parse(CLICKHOUSE / "cluster.xml").getroot()  # noqa: S314 (our own file)
    (named,) = cluster.findall("remote_servers/*")
    assert named.tag == mixer["telemetry"]["cluster"]
    servers = {name: service for name, service in compose["services"].items() if name.startswith("clickhouse-")}
    shards = [[host.text for host in shard.findall("replica/host")] for shard in named.findall("shard")]
    assert {host for shard in shards for host in shard} == servers.keys()
    assert {len(shard) for shard in shards} == {2}
    for number, shard in enumerate(named.findall("shard"), 1):
        assert shard.findtext("internal_replication") == "true", "else every row would be there twice"
        for replica, host in enumerate(shards[number - 1], 1):
            environment = servers[host or ""]["environment"]
            assert (environment["SHARD"], environment["REPLICA"]) == (str(number), str(replica))
            assert servers[host or ""]["networks"]["default"]["aliases"] == ["clickhouse"]
    assert {macro.tag: macro.get("from_env") for macro in cluster.findall("macros/*")} == {
        "shard": "SHARD",
        "replica": "REPLICA",
    }
    keeper = ET.parse(CLICKHOUSE / "keeper.xml").getroot()  # noqa: S314 (our own file)
    keepers = {server.findtext("hostname"): server.findtext("id") for server in keeper.iter("server")}
    assert keepers == {host: compose["services"][host]["environment"]["KEEPER_ID"] for host in keepers}
    assert [node.findtext("host") for node in cluster.findall("zookeeper/node")] == list(keepers)
    ports = {node.findtext("port") for node in cluster.findall("zookeeper/node")}
    assert ports == {keeper.findtext("keeper_server/tcp_port")}
    users = ET.parse(CLICKHOUSE / "users.xml").getroot()  # noqa: S314 (our own file)
    (user,) = users.findall("users/*")
    assert f"//{user.tag}@clickhouse:9000/mesh" in mixer["telemetry"]["clickhouse"]["url"]


@pytest.mark.clickhouse
def test_a_clickhouse_server_reads_the_cluster_and_who_it_is(
    ports: Ports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Debian's is of 2018: it has no `secret`, calls the root by another name, and resolves every host at once."""
    text = (CLICKHOUSE / "cluster.xml").read_text(encoding="utf-8")
    text = re.sub(r"<secret .*/>", "", text).replace("clickhouse>", "yandex>")
    hosts = [f"127.0.0.{shard}{replica}" for shard in (1, 2) for replica in (1, 2)]
    for host in hosts:
        text = text.replace(f"<host>clickhouse-{host.rpartition('.')[2]}</host>", f"<host>{host}</host>")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d" / "cluster.xml").write_text(text)
    compose = read(CLICKHOUSE / "compose.yaml")
    for name, value in compose["services"]["clickhouse-21"]["environment"].items():
        monkeypatch.setenv(name, str(value))
    server = ClickHouseServer(ports, tmp_path)
    server.start()
    try:
        found = server.ask("SELECT shard_num, replica_num, host_name, port FROM system.clusters WHERE cluster = 'mesh'")
        places = [(shard, replica) for shard in (1, 2) for replica in (1, 2)]
        assert found == [(*place, host, 9000) for place, host in zip(places, hosts, strict=True)]
        assert dict(server.ask("SELECT macro, substitution FROM system.macros")) == {"shard": "2", "replica": "1"}
    finally:
        server.kill()


class ShippedCluster(Cluster):
    """Three masters of the shipped valkey.conf and users.acl, on this machine's ports and with passwords made here."""

    folder: Path

    def _node(self, programs: Programs, ports: Ports) -> Valkey:  # type: ignore[override]
        bus = ports.take()
        options = ("--include", self.folder / "valkey.conf", "--cluster-port", str(bus))
        node = Valkey(programs, ports, *options, secret="replication")
        node.bus = bus
        return node


def lay_out(folder: Path) -> None:
    acl = (VALKEY / "users.acl").read_text(encoding="utf-8")
    for place, password in {"MIXER": "mixer", "REPLICATION": "replication"}.items():
        acl = acl.replace(f"#{place}", f"#{hashlib.sha256(password.encode()).hexdigest()}")
    (folder / "users.acl").write_text(acl)
    (folder / "replication.conf").write_text("masterauth replication\n")
    (folder / "mixer").write_text("mixer")
    text = (VALKEY / "valkey.conf").read_text(encoding="utf-8")
    (folder / "valkey.conf").write_text(text.replace("/run/secrets/", f"{folder}/"))


@pytest.mark.valkey
def test_mixer_counts_on_a_valkey_cluster_that_is_configured_so(programs: Programs, ports: Ports, tmp_path: Path):
    """With the user of users.acl, who may do nothing but what the counters need."""
    lay_out(tmp_path)
    ShippedCluster.folder = tmp_path
    cluster = ShippedCluster(programs, ports)
    (uri,) = re.findall(r"redis\+cluster://(?P<user>\w+)@", (VALKEY / "mixer.yaml").read_text())
    settings: dict[str, Any] = read(VALKEY / "mixer.yaml")["rate_limit"]
    settings |= {
        "config": ["limits.yaml"],
        "store": cluster.uri.replace("://", f"://{uri}@"),
        "redis": {"password": {"file": "mixer"}},
        "timeout": "10s",
    }
    mixer = Mixer(programs, ports, tmp_path)
    limits = (VALKEY / "limits.yaml").read_text().replace("requests_per_unit: 1000", "requests_per_unit: 2")
    mixer.write("limits.yaml", limits.replace("unit: minute", "unit: day"))
    mixer.configure({"rate_limit": settings})
    mixer.start()
    eventually(lambda: mixer.metric("mixer_counter_store_up") == 3, "a mixer that knows the three masters")
    with connect(mixer.address) as client:
        for number in range(9):  # over all three, with near certainty
            codes = [ask(client, f"tenant-{number}") for _ in range(3)]
            assert codes == ["OK", "OK", "OVER_LIMIT"], number
    tried = [cluster.masters[0].ask("ACL", "DRYRUN", "mixer", "GET", key) for key in ("mixer:key", "other:key")]
    assert tried[0] == b"+OK\r\n"
    assert b"no permissions" in tried[1]


def ask(client: Client, tenant: str) -> str:
    descriptor = ratelimit_pb2.RateLimitDescriptor()
    descriptor.entries.add(key="tenant", value=tenant)
    descriptor.entries.add(key="service", value="reviews")
    answer = client.limit(rls_pb2.RateLimitRequest(domain="mesh", descriptors=[descriptor]))
    return rls_pb2.RateLimitResponse.Code.Name(answer.overall_code)
