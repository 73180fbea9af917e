"""A change is noticed however it is made, and told once it has settled."""

import asyncio
import os
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from mixer_py.config import load
from mixer_py.config.watching import changes, watch, watched_paths

LONG = 30.0  # seconds that a slow machine may take
SHORT = {"settle": 0.05, "poll": 0.5}


@asynccontextmanager
async def watching(*paths, **options):
    """What is told about these paths, as a queue."""
    told = asyncio.Queue()
    events = watch(lambda: paths, **(SHORT | options))

    async def tell():
        async with aclosing(events):
            async for changed in events:
                told.put_nowait(changed)

    async with asyncio.timeout(LONG):
        task = asyncio.create_task(tell())
        try:
            yield told
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def quiet(told, seconds=1.0):
    """Whether nothing is told for a while."""
    await asyncio.sleep(seconds)
    return told.empty()


async def test_a_file_that_is_written_in_place(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file) as told:
        file.write_text("bb")
        assert await told.get() == {file}


async def test_a_file_that_an_editor_renames_into_place(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file) as told:
        for content in ("b", "c"):
            (tmp_path / ".mixer.yaml.swp").write_text(content)
            (tmp_path / ".mixer.yaml.swp").replace(file)
            assert await told.get() == {file}


async def test_a_file_in_a_folder_that_kubernetes_swaps(tmp_path):
    mount = tmp_path / "mount"
    for version in ("one", "two", "three"):
        folder = mount / f"..{version}"
        folder.mkdir(parents=True)
        (folder / "mixer.yaml").write_text(version)
    (mount / "..data").symlink_to("..one")
    file = mount / "mixer.yaml"
    file.symlink_to("..data/mixer.yaml")
    async with watching(file) as told:
        for version in ("two", "three"):
            (mount / "..data_tmp").symlink_to(f"..{version}")
            (mount / "..data_tmp").replace(mount / "..data")
            assert await told.get() == {file}
            assert file.read_text() == version


async def test_a_whole_folder_that_is_mounted_by_links(tmp_path):
    mount = tmp_path / "policies"
    for version in ("one", "two"):
        folder = mount / f"..{version}"
        folder.mkdir(parents=True)
        (folder / "p.rego").write_text(version)
    (mount / "..data").symlink_to("..one")
    (mount / "p.rego").symlink_to("..data/p.rego")
    async with watching(mount) as told:
        (mount / "..data_tmp").symlink_to("..two")
        (mount / "..data_tmp").replace(mount / "..data")
        assert await told.get() == {mount}


async def test_a_file_below_a_folder_comes_changes_and_goes(tmp_path):
    folder = tmp_path / "policies"
    (folder / "deep").mkdir(parents=True)
    async with watching(folder) as told:
        (folder / "deep" / "a.rego").write_text("a")
        assert await told.get() == {folder}
        (folder / "deep" / "a.rego").write_text("bb")
        assert await told.get() == {folder}
        (folder / "new" / "er").mkdir(parents=True)
        (folder / "new" / "er" / "b.rego").write_text("b")
        assert await told.get() == {folder}
        (folder / "deep" / "a.rego").unlink()
        assert await told.get() == {folder}


async def test_a_file_that_does_not_exist_yet(tmp_path):
    file = tmp_path / "later" / "mixer.yaml"
    async with watching(file) as told:
        file.parent.mkdir()
        await asyncio.sleep(0.1)
        file.write_text("a")
        assert await told.get() == {file}


async def test_a_file_that_goes_and_comes_back_changed(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file) as told:
        file.unlink()
        assert await told.get() == {file}
        file.write_text("bb")
        assert await told.get() == {file}


async def test_a_file_beside_is_none_of_ours(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file) as told:
        (tmp_path / "other.yaml").write_text("b")
        file.read_text()
        assert await quiet(told)


async def test_a_file_that_is_written_in_pieces_is_told_when_it_is_whole(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file, settle=2.0) as told:
        with file.open("w") as out:
            for digit in range(10):
                out.write(str(digit))
                out.flush()
                await asyncio.sleep(0.02)
        assert await told.get() == {file}
        assert file.read_text() == "0123456789"
        assert await quiet(told)


async def test_paths_are_asked_for_again(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for path in (first, second, third):
        path.write_text("a")
        os.utime(path, ns=(1, 1))
    await asyncio.sleep(0.3)  # until what was written just now is no longer new
    watched = [first]
    async with asyncio.timeout(LONG), aclosing(watch(lambda: watched, **SHORT)) as events:
        first.write_text("bb")
        assert await anext(events) == {first}
        watched = [first, second]
        change = asyncio.ensure_future(anext(events))
        await asyncio.sleep(1.0)  # more than one look
        assert not change.done()
        second.write_text("bb")
        assert await change == {second}


async def test_a_new_path_that_changed_before_it_could_be_looked_at_is_told(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("a")
    second.write_text("a")
    watched = [first]
    async with asyncio.timeout(LONG), aclosing(watch(lambda: watched, **SHORT)) as events:
        first.write_text("bb")
        assert await anext(events) == {first}
        watched = [first, second]
        second.write_text("bb")
        assert await anext(events) == {second}


async def test_a_change_before_the_first_look_is_told(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    events = watch(lambda: [file], **SHORT)
    file.write_text("bb")
    async with asyncio.timeout(LONG), aclosing(events):
        assert await anext(events) == {file}


async def test_a_polled_change_is_noticed_without_any_event(tmp_path, monkeypatch):
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("mixer_py.config.watching._folders", lambda _paths: (elsewhere,))
    async with watching(file) as told:
        file.write_text("bb")
        assert await told.get() == {file}


async def test_everything_that_the_configuration_names_is_watched(tmp_path):
    file = tmp_path / "mixer.yaml"
    file.write_text(
        "policy: {bundles: [p]}\nrate_limit: {config: [r.yaml]}\nserver: {socket: s.sock, admin_token: {file: token}}\n"
    )
    configuration = load(file, {})
    assert watched_paths(configuration, file) == tuple(
        tmp_path / name for name in ("mixer.yaml", "p", "r.yaml", "token")
    )
    assert watched_paths(load(None, {}), None) == ()
    async with asyncio.timeout(LONG), aclosing(changes(file, lambda: configuration, **SHORT)) as events:
        (tmp_path / "token").write_text("x")
        assert await anext(events) == {tmp_path / "token"}


@pytest.mark.parametrize("relative", [True, False])
async def test_a_link_to_a_file_elsewhere_is_followed(tmp_path, relative):
    real = tmp_path / "real" / "mixer.yaml"
    real.parent.mkdir()
    real.write_text("a")
    link = tmp_path / "links" / "mixer.yaml"
    link.parent.mkdir()
    link.symlink_to(Path("../real/mixer.yaml") if relative else real)
    async with watching(link) as told:
        real.write_text("bb")
        assert await told.get() == {link}
        os.utime(real, ns=(1, 1))
        assert await told.get() == {link}


async def test_without_events_there_is_polling(tmp_path, monkeypatch):
    def refuse(*_folders, **_options):
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("mixer_py.config.watching.awatch", refuse)
    file = tmp_path / "mixer.yaml"
    file.write_text("a")
    async with watching(file) as told:
        for content in ("bb", "ccc"):
            file.write_text(content)
            assert await told.get() == {file}
