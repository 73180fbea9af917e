"""The container image, built from its Dockerfile by buildah, and run as its own configuration says.

No registry of images is asked: the base is Debian's, put together by mmdebstrap. And no runtime of containers is there:
a container is a mount and a network namespace with the image as a read-only root, its user, and no capability.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mixer_py.demo.processes import Program
from tests.parts.presence import ROOT
from tests.parts.programs import Programs

BASE: Final = "localhost/debian:bookworm-slim"
IMAGE: Final = "localhost/mixer"
_SUITE: Final = "bookworm"
_WITHOUT: Final = ("man", "doc", "locale", "info")
"""What the slim images of Debian leave out, below /usr/share."""
_TRUST: Final = Path("/usr/local/share/ca-certificates")
_PIP: Final = Path("/etc/pip.conf")
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_LOOPBACK_UP: Final = (
    "import fcntl, socket, struct; "
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 0x41))"  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
)


class Image:
    """An image whose files are mounted."""

    def __init__(self, root: Path, configuration: Mapping[str, Any]) -> None:
        self.root = root
        self.configuration = configuration

    def start(self, programs: Programs, etc: Path) -> Program:
        """What the image starts by itself, with /etc/mixer from a folder, and nothing to write but its volumes."""
        command = [*self.configuration["Entrypoint"], *self.configuration["Cmd"]]
        written = ("/tmp", "/run/mixer", "/var/lib/mixer")
        user, _, group = self.configuration["User"].partition(":")
        root = shlex.quote(str(self.root))
        steps = [
            f"mount --bind {root} {root}",
            f"mount -o remount,ro,bind {root}",
            *(f"mount -t tmpfs -o mode=0700,uid={user},gid={group} none {root}{path}" for path in written),
            f"mount --rbind /proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount --bind {shlex.quote(str(etc))} {root}/etc/mixer",
            f"mount -o remount,ro,bind {root}/etc/mixer",
            f"{sys.executable} -c {shlex.quote(_LOOPBACK_UP)}",
            f"cd {root}",
            f"exec env -i {shlex.join(self.configuration['Env'])} {_program('chroot')} {root} {self._as_user(command)}",
        ]
        shell = (_program("unshare"), "--mount", "--net", "/bin/bash", "-ec", "\n".join(steps))
        return programs.start("container", shell)

    def ask(self, container: Program, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in the running container, as its user."""
        enter = (_program("nsenter"), "--target", str(container.pid), "--mount", "--net", "--root", "--wd")
        environment = ("/usr/bin/env", "-i", *self.configuration["Env"])
        return subprocess.run(
            (*enter, *environment, *shlex.split(self._as_user(command))), capture_output=True, text=True, check=False
        )

    def _as_user(self, command: Sequence[str]) -> str:
        user, _, group = self.configuration["User"].partition(":")
        rights = f"--reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        return f"/usr/bin/setpriv {rights} {shlex.join(command)}"


@contextmanager
def built(folder: Path) -> Iterator[Image]:
    """Builds the image in a folder, and mounts it."""
    store = (
        "buildah",
        "--storage-driver=overlay",
        f"--root={folder / 'store'}",
        f"--runroot={folder / 'run'}",
    )

    def buildah(*arguments: str | Path) -> str:
        finished = subprocess.run((*store, *arguments), capture_output=True, text=True, check=False, cwd=ROOT)
        assert finished.returncode == 0, f"buildah {arguments}: {finished.stdout[-3000:]}{finished.stderr[-3000:]}"
        return finished.stdout.strip()

    _make_base(folder / "base.tar")
    empty = buildah("from", "scratch")
    buildah("add", "-q", empty, folder / "base.tar", "/")
    if _TRUST.is_dir():
        buildah("add", "-q", empty, _TRUST, str(_TRUST))  # whom this machine trusts when it speaks to package indexes
    buildah("commit", "-q", "--rm", empty, BASE)
    index = ("--volume", f"{_PIP}:{_PIP}:ro") if _PIP.exists() else ()
    options = ("--isolation=chroot", "--network=host", "--format=docker", "--pull=never", "--build-arg", f"BASE={BASE}")
    buildah("build", *options, *index, "-f", "deploy/container/Dockerfile", "-t", IMAGE, ".")
    configuration = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    container = buildah("from", "--pull-never", IMAGE)
    try:
        yield Image(Path(buildah("mount", container)), configuration)
    finally:
        buildah("rm", container)
        buildah("rmi", "--all", "--force")


def _program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    assert found is not None, f"{name} is not installed"
    return found


def _make_base(archive: Path) -> None:
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _WITHOUT]
    command = ("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", *left_out, _SUITE, archive)
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
