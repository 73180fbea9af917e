"""Fetching against a real HTTP server: what is in force, what is kept, what is refused, and how often it looks."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mixer_py.errors import ConfigurationError, Fault, ProcessError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.bundles.sources import bundle_source
from mixer_py.policy.settings import PolicySettings
from mixer_py.runtime import copies
from mixer_py.runtime.downloads import Downloader, DownloadError
from mixer_py.runtime.fetching import Fetching
from tests.bundles.archives import MODULE, pack
from tests.bundles.web_server import Page, WebServer

_SECONDS = 30.0


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.end()


class Rig:
    """A `Fetching` whose builds are written down."""

    def __init__(self, folder: Path, web: WebServer) -> None:
        self.folder = folder
        self.web = web
        self.registry = Registry()
        self.arrived = asyncio.Event()
        private = folder / "private"
        private.mkdir(exist_ok=True)
        self.fetching = Fetching(private, self.registry, FakeClock(), self.arrived.set)
        self.builds: list[dict[str, bytes]] = []
        self.bad: Callable[[Mapping[str, bytes]], bool] = lambda _: False

    def settings(self, **changes: Any) -> PolicySettings:
        fetch = {"min_delay": "50ms", "max_delay": "100ms", "timeout": "5s", "folder": str(self.folder / "state")}
        bundles = [self.web.url("/b.tar.gz")]
        return PolicySettings.model_validate(
            {"bundles": bundles, **changes, "fetch": {**fetch, **changes.get("fetch", {})}}
        )

    async def build(self, files: Mapping[str, Path]) -> None:
        content = {key: path.read_bytes() for key, path in files.items()}
        if self.bad(content):
            raise ConfigurationError([Fault("is bad")])
        self.builds.append(content)

    async def reload(self, settings: PolicySettings, *, again: bool = False) -> None:
        await self.fetching.reload(settings, self.build, again=again)

    async def start_with_what_comes(self, settings: PolicySettings) -> None:
        """Starts, and builds again once something was fetched."""
        await self.fetching.start(settings, self.build)
        await self.next_arrival()
        await self.reload(settings)

    async def next_arrival(self) -> None:
        await asyncio.wait_for(self.arrived.wait(), _SECONDS)
        self.arrived.clear()

    def count(self, outcome: str, source: str = "/b.tar.gz") -> float:
        name = self.web.url(source) if source.startswith("/") else source
        family = self.registry.counter("mixer_fetches_total", "", ("source", "outcome"))
        return family.labels(name, outcome).value

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not look():
                await asyncio.sleep(0.01)


@pytest.fixture
async def rig(tmp_path: Path, web: WebServer) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, web)
    yield made
    await made.fetching.stop()


def values(build: Mapping[str, bytes]) -> list[bytes]:
    return sorted(build.values())


def archive(folder: Path, text: str = MODULE) -> bytes:
    return pack(folder / "made.tar.gz", {"p.rego": text}).read_bytes()


async def test_what_is_fetched_is_built_kept_and_not_fetched_again(rig: Rig, tmp_path: Path) -> None:
    content = archive(tmp_path)
    rig.web.pages["/b.tar.gz"] = Page(content)
    settings = rig.settings()
    await rig.fetching.start(settings, rig.build)
    assert rig.builds == [{}], "it starts without, at once"
    await rig.next_arrival()
    await rig.reload(settings)
    assert values(rig.builds[-1]) == [content]
    await rig.until(lambda: rig.web.answers.count(304) >= 2)
    assert rig.count("changed") == 1
    assert rig.count("unchanged") >= 1
    assert not rig.arrived.is_set()
    (copy,) = (tmp_path / "state").glob("*.tar.gz")
    assert copy.read_bytes() == content
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    _, headers = rig.web.asked[0]
    assert headers["prefer"] == "modes=snapshot"
    assert "if-none-match" not in headers


async def test_the_next_start_uses_the_copy_while_the_source_is_away(rig: Rig, tmp_path: Path, web: WebServer) -> None:
    content = archive(tmp_path)
    web.pages["/b.tar.gz"] = Page(content)
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    await rig.fetching.stop()
    web.pages["/b.tar.gz"] = Page(status=500)
    second = Rig(tmp_path, web)
    await second.fetching.start(settings, second.build)
    try:
        assert [values(build) for build in second.builds] == [[content]]
        await second.until(lambda: second.count("failed"))
        web.pages["/b.tar.gz"] = Page(content)
        await second.until(lambda: second.count("unchanged"))
        assert web.answers[-1] == 304, "the copy's ETag was kept with it"
        assert not second.arrived.is_set()
    finally:
        await second.fetching.stop()


def test_a_copy_that_somebody_else_left_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bundle_source("https://example.com/b.tar.gz")
    content = pack(tmp_path / "b.tar.gz", {"p.rego": MODULE})
    copies.keep(tmp_path / "state", source, content, "")
    assert copies.find(tmp_path / "state", source) == tmp_path / "state" / source.key
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert (copies.find(tmp_path / "state", source) is None) is (owner != 0)
    monkeypatch.undo()
    copy = tmp_path / "state" / source.key
    copy.unlink()
    copy.symlink_to(content)
    assert copies.find(tmp_path / "state", source) is None


async def test_a_copy_that_was_tampered_with_is_fetched_anew(rig: Rig, tmp_path: Path, web: WebServer) -> None:
    content = archive(tmp_path)
    web.pages["/b.tar.gz"] = Page(content)
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    await rig.fetching.stop()
    (copy,) = (tmp_path / "state").glob("*.tar.gz")
    copy.write_bytes(b"tampered")
    second = Rig(tmp_path, web)
    second.bad = lambda files: b"tampered" in files.values()
    await second.fetching.start(settings, second.build)
    try:
        assert second.builds == [{}], "it is not used, and mixer starts without"
        assert second.count("refused") == 1
        await second.next_arrival()
        await second.reload(settings)
        assert values(second.builds[-1]) == [content]
        assert copy.read_bytes() == content
    finally:
        await second.fetching.stop()


async def test_a_faulty_copy_of_what_a_reload_names_first_is_asked_for_anew(rig: Rig, tmp_path: Path) -> None:
    content = archive(tmp_path)
    rig.web.pages["/b.tar.gz"] = Page(content)
    settings = rig.settings()
    state = tmp_path / "state"
    draft = tmp_path / "draft"
    draft.write_bytes(b"faulty")
    copies.keep(state, bundle_source(settings.bundles[0]), draft, rig.web.tag("/b.tar.gz"))
    rig.bad = lambda files: b"faulty" in files.values()
    await rig.fetching.start(rig.settings(bundles=[]), rig.build)
    with pytest.raises(ConfigurationError):
        await rig.reload(settings, again=True)
    await rig.next_arrival()
    await rig.reload(settings)
    assert values(rig.builds[-1]) == [content]


async def test_a_faulty_one_is_set_aside_and_the_last_good_stays(rig: Rig, tmp_path: Path) -> None:
    good, bad, better = (archive(tmp_path, f"package {name}\n") for name in ("good", "bad", "better"))
    rig.web.pages["/b.tar.gz"] = Page(good)
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    rig.bad = lambda files: bad in files.values()
    rig.web.pages["/b.tar.gz"] = Page(bad)
    await rig.next_arrival()
    with pytest.raises(ConfigurationError, match="is bad"):
        await rig.reload(settings)
    assert values(rig.builds[-1]) == [good]
    assert len(rig.builds) == 2, "nothing is built again when nothing else has changed"
    assert rig.count("refused") == 1
    with pytest.raises(ConfigurationError):
        await rig.reload(settings, again=True)
    assert values(rig.builds[-1]) == [good], "another change is put in force without it"
    assert len(rig.builds) == 3
    (copy,) = (tmp_path / "state").glob("*.tar.gz")
    assert copy.read_bytes() == good
    rig.bad = lambda _: False
    await rig.reload(settings, again=True)
    assert values(rig.builds[-1]) == [bad], "another change may have made it good"
    rig.web.pages["/b.tar.gz"] = Page(better)
    await rig.next_arrival()
    await rig.reload(settings)
    assert values(rig.builds[-1]) == [better]
    await rig.until(lambda: len(list((tmp_path / "private").iterdir())) == 1)


async def test_what_a_busy_worker_kept_out_is_offered_again(rig: Rig, tmp_path: Path) -> None:
    rig.web.pages["/b.tar.gz"] = Page(archive(tmp_path))
    settings = rig.settings()
    await rig.fetching.start(settings, rig.build)
    await rig.next_arrival()

    async def busy(_: Mapping[str, Path]) -> None:
        raise ProcessError("a worker is being replaced")

    with pytest.raises(ProcessError):
        await rig.fetching.reload(settings, busy, again=False)
    await rig.next_arrival()
    await rig.reload(settings)
    assert len(rig.builds[-1]) == 1


async def test_a_faulty_one_does_not_hold_another_back(rig: Rig, tmp_path: Path) -> None:
    bundle, keys = archive(tmp_path), b'{"keys": []}'
    rig.web.pages |= {"/b.tar.gz": Page(bundle), "/keys": Page(keys)}
    data = {"jwks": {"url": rig.web.url("/keys"), "refresh": "1s"}}
    settings = rig.settings(data=data, data_hosts=[f"127.0.0.1:{rig.web.port}"])
    await rig.fetching.start(settings, rig.build)
    await rig.until(lambda: rig.count("changed") + rig.count("changed", "policy.data.jwks") == 2)
    await rig.reload(settings)
    assert values(rig.builds[-1]) == sorted([bundle, keys])
    bad, rotated = archive(tmp_path, "package bad\n"), b'{"keys": [1]}'
    rig.bad = lambda files: bad in files.values()
    rig.web.pages |= {"/b.tar.gz": Page(bad), "/keys": Page(rotated)}
    await rig.until(lambda: rig.count("changed") + rig.count("changed", "policy.data.jwks") == 4)
    with pytest.raises(ConfigurationError):
        await rig.reload(settings)
    assert values(rig.builds[-1]) == sorted([bundle, rotated])


async def test_nothing_is_decided_before_all_have_come(rig: Rig, tmp_path: Path) -> None:
    rig.web.pages["/b.tar.gz"] = Page(archive(tmp_path))
    data = {"jwks": {"url": rig.web.url("/keys")}}
    settings = rig.settings(data=data, data_hosts=[f"127.0.0.1:{rig.web.port}"])
    await rig.start_with_what_comes(settings)
    assert rig.builds == [{}]
    assert not list(tmp_path.glob("state/*"))
    rig.web.pages["/keys"] = Page(b"{}")
    await rig.until(lambda: rig.count("changed", "policy.data.jwks"))
    await rig.reload(settings)
    assert len(rig.builds[-1]) == 2


async def test_a_reload_that_names_what_cannot_be_fetched_is_refused(rig: Rig, tmp_path: Path) -> None:
    one, two = archive(tmp_path), archive(tmp_path, "package two\n")
    rig.web.pages["/b.tar.gz"] = Page(one)
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    more = rig.settings(bundles=[*settings.bundles, rig.web.url("/two.tar.gz?token=hidden")])
    with pytest.raises(ConfigurationError) as caught:
        await rig.reload(more, again=True)
    (fault,) = caught.value.faults
    assert (
        fault.message == f"{rig.web.url('/two.tar.gz')} the server answered 404 Not Found, and there is no copy of it"
    )
    assert len(rig.builds) == 2
    rig.web.pages["/two.tar.gz?token=hidden"] = Page(two)
    await rig.next_arrival()
    await rig.reload(more)
    assert values(rig.builds[-1]) == sorted([one, two])
    await rig.reload(settings, again=True)
    asked = len([path for path, _ in rig.web.asked if path.startswith("/two")])
    await rig.until(lambda: len([path for path, _ in rig.web.asked if path == "/b.tar.gz"]) > asked + 2)
    assert len([path for path, _ in rig.web.asked if path.startswith("/two")]) == asked, "it is not looked at any more"


async def test_without_an_etag_the_content_tells(rig: Rig, tmp_path: Path) -> None:
    rig.web.pages["/b.tar.gz"] = Page(archive(tmp_path), etag=False)
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    await rig.until(lambda: rig.count("unchanged") >= 2)
    assert rig.count("changed") == 1


async def test_a_copy_that_cannot_be_written_is_counted_and_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    rig.web.pages["/b.tar.gz"] = Page(archive(tmp_path))
    settings = rig.settings()
    await rig.start_with_what_comes(settings)
    assert rig.count("not_kept") == 1
    assert len(rig.builds[-1]) == 1
    (told,) = rig.fetching.describe()
    assert told["in_force"]
    assert told["error"] is None


async def look(
    rig: Rig, *, path: str = "/b.tar.gz", limit: int = 1 << 20, allowed: tuple[str, ...] = (), **fetch: Any
) -> str:
    """The error of one look, or nothing."""
    downloader = Downloader(rig.settings(fetch=fetch).fetch, allowed)
    try:
        await downloader.look(bundle_source(rig.web.url(path)), "", limit, rig.folder / "looked")
    except DownloadError as error:
        return str(error)
    return ""


async def test_what_is_wrong_with_an_answer(rig: Rig, tmp_path: Path) -> None:
    content = archive(tmp_path)
    rig.web.pages |= {
        "/good": Page(content),
        "/large": Page(b"\x1f\x8b" + b"x" * 10_000),
        "/page": Page(b"<html>log in</html>"),
        "/slow": Page(content, delay=2.0),
        "/short": Page(content, headers={"Content-Length": "100000"}),
        "/unasked": Page(status=304),
    }
    assert await look(rig, path="/good") == ""
    assert await look(rig, path="/nothing") == "the server answered 404 Not Found"
    assert await look(rig, path="/large", limit=5000) == "is larger than 5000"
    assert await look(rig, path="/page") == "is no bundle archive (.tar.gz)"
    assert await look(rig, path="/slow", timeout="500ms") == "did not come within 0.5 s"
    assert (await look(rig, path="/short", timeout="1s")).startswith(("cannot be fetched", "did not come"))
    assert await look(rig, path="/unasked") == "the server answered 304 Not Modified"


async def test_redirects_go_to_allowed_hosts_only(rig: Rig, tmp_path: Path, web: WebServer) -> None:
    other = WebServer()
    try:
        other.pages["/b"] = Page(archive(tmp_path))
        web.pages |= {
            "/near": Page(status=302, headers={"Location": "/far"}),
            "/far": Page(status=307, headers={"Location": other.url("/b")}),
            "/loop": Page(status=302, headers={"Location": "/loop"}),
            "/file": Page(status=302, headers={"Location": "file:///etc/passwd"}),
        }
        here, there = f"127.0.0.1:{web.port}", f"127.0.0.1:{other.port}"
        assert f"the server redirects to {there}, which is not among" in await look(rig, path="/near")
        hosts = {here: {"token": "for-here", "headers": {"X-Tenant": "one"}}}
        assert await look(rig, path="/near", redirect_hosts=[there], hosts=hosts) == ""
        assert web.asked[-1][1]["authorization"] == "Bearer for-here"
        assert web.asked[-1][1]["x-tenant"] == "one"
        assert "authorization" not in other.asked[-1][1], "credentials stay with their host"
        assert "redirects more than 5 times" in await look(rig, path="/loop")
        assert "redirects to what is not https" in await look(rig, path="/file")
    finally:
        other.end()


async def test_tls_is_verified(rig: Rig, tmp_path: Path, web: WebServer, server_certificate: tuple[Path, Path]) -> None:
    certificate, key = server_certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    web.pages["/b.tar.gz"] = Page(archive(tmp_path))
    source = bundle_source(web.url("/b.tar.gz").replace("http://", "https://"))
    with pytest.raises(DownloadError, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
        await Downloader(rig.settings().fetch, ()).look(source, "", 1 << 20, tmp_path / "looked")
    trusting = rig.settings(fetch={"ca": str(certificate)}).fetch
    assert await Downloader(trusting, ()).look(source, "", 1 << 20, tmp_path / "looked") is not None


async def test_a_token_file_that_is_away_is_an_error_of_that_look(rig: Rig, tmp_path: Path) -> None:
    rig.web.pages["/b.tar.gz"] = Page(archive(tmp_path))
    hosts = {f"127.0.0.1:{rig.web.port}": {"token": {"file": str(tmp_path / "token")}}}
    assert "No such file" in await look(rig, hosts=hosts)
    (tmp_path / "token").write_text("secret\n")
    assert await look(rig, hosts=hosts) == ""
    assert rig.web.asked[-1][1]["authorization"] == "Bearer secret"


async def test_a_document_is_json_and_keeps_its_form(rig: Rig) -> None:
    data = {"jwks": {"url": rig.web.url("/keys"), "refresh": "1s"}}
    settings = rig.settings(bundles=[], data=data, data_hosts=[f"127.0.0.1:{rig.web.port}"])
    rig.web.pages["/keys"] = Page(b"<html>")
    await rig.fetching.start(settings, rig.build)
    await rig.until(lambda: rig.count("failed", "policy.data.jwks"))
    (told,) = rig.fetching.describe()
    assert str(told["error"]).startswith("is no JSON")
    rig.web.pages["/keys"] = Page(json.dumps({"keys": [1]}).encode())
    await rig.next_arrival()
    await rig.reload(settings)
    assert values(rig.builds[-1]) == [b'{"keys": [1]}']
