"""What all tests share: skips that are failures on CI, the logs of running programs beside a failure, real parts."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mixer_py.runtime.arrow  # noqa: F401 (first of all: pyarrow is to be without pandas here as it is in the product)
from mixer_py.demo.processes import Ports
from tests.parts.presence import on_ci, skip_what_is_missing
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

_PROGRAMS = pytest.StashKey[list[Programs]]()
_RUNNING_PROGRAMS = frozenset({"programs", "module_programs", "make_programs"})
"""Fixtures of which a test uses one, by way of others or itself, when it runs real programs."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_PROGRAMS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_what_is_missing(items)
    begin_with_long_modules(items)
    if on_ci():
        try_tests_of_programs_twice(items)


def begin_with_long_modules(items: list[pytest.Item]) -> None:
    """Else processes that share the tests would not end together."""
    minutes = dict.fromkeys((item.path for item in items), 0.0)
    for item in items:
        for mark in item.iter_markers("long"):
            minutes[item.path] = max(minutes[item.path], *mark.args)
    items.sort(key=lambda item: -minutes[item.path])


def try_tests_of_programs_twice(items: list[pytest.Item]) -> None:
    """A starved machine can break what several real programs do in time; the run tells of each that was tried again.

    Nowhere but on CI, and in no test of our code alone: such a failure is a defect, however seldom.
    """
    for item in items:
        if not _RUNNING_PROGRAMS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: they may hold a time, and processes that share the tests have to agree on names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True, scope="module")
def engines_are_freed_where_they_were_made() -> Iterator[None]:
    """A policy engine belongs to its thread; the collector must not find one in a thread of another module's test."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def engines_are_freed_by_the_thread_of_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """The collector runs in whichever thread happens to start it, one of xdist's, too, where no engine may be freed."""
    if not _RUNNING_PROGRAMS.isdisjoint(request.fixturenames):
        yield  # engines are in the programs, and garbage of minutes would be too much
        return
    gc.disable()
    yield
    gc.collect(1)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail") and on_ci():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"CI is set, so a skip is a failure. {reason}"
    if report.failed:
        for programs in item.config.stash[_PROGRAMS]:
            report.sections.extend(programs.last_words())
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """A module that skips itself as a whole is a skip too."""
    report: pytest.CollectReport = yield
    if report.skipped and on_ci():
        report.outcome = "failed"
        report.longrepr = f"CI is set, so a skip is a failure. {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def ports() -> Iterator[Ports]:
    """Free ports that nobody else takes meanwhile."""
    free = Ports()
    yield free
    free.close()


@pytest.fixture(scope="session")
def make_programs(request: pytest.FixtureRequest) -> Callable[[Path], Programs]:
    """Makes a group of programs whose logs stand beside a failure."""

    def make(folder: Path) -> Programs:
        group = Programs(folder)
        request.config.stash[_PROGRAMS].append(group)
        return group

    return make


@pytest.fixture
def programs(tmp_path: Path, make_programs: Callable[[Path], Programs]) -> Iterator[Programs]:
    """Programs of one test, ended with it."""
    with make_programs(tmp_path) as group:
        yield group


@pytest.fixture(scope="module")
def module_programs(
    tmp_path_factory: pytest.TempPathFactory, make_programs: Callable[[Path], Programs]
) -> Iterator[Programs]:
    """Programs that the tests of a module share."""
    with make_programs(tmp_path_factory.mktemp("programs")) as group:
        yield group


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """An HTTP service that answers with what it was sent."""
    service = Upstream()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05}, name="upstream")
    thread.start()
    yield service
    service.shutdown()
    thread.join()
    service.server_close()
