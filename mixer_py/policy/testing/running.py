"""Run tests one after the other in this process, and tell how each went. Ends no test that takes too long: see `apart`.

They are evaluated by an interpreter that answers as the server's engines do; policies that the server would refuse
are refused here too.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from mixer_py.policy.explaining.held import stopped_at
from mixer_py.policy.explaining.interpreter import Extensions, Watched, WatchedInterpreter, parse
from mixer_py.policy.explaining.marking import CASE, MARK
from mixer_py.policy.rego.calls import check_calls
from mixer_py.policy.rego.definitions import check_definitions
from mixer_py.policy.rego.recursion import check_recursion
from mixer_py.policy.testing.suite import MarkedSuite, PolicyTest, Suite, mark_tests

_CASE_ARGUMENTS: Final = 2
_MARK_ARGUMENTS: Final = 3


class Outcome(StrEnum):
    """How a test went: it passed, failed, could not be evaluated, or was skipped because it is a `todo_test_`."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case of a table.

    Attributes:
        name: its keys, one for each part of the rule's name that is no constant.
        passed: whether it was true.
        reason: where it stopped, with file and line; empty when it passed.
    """

    name: tuple[str, ...]
    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyTestResult:
    """How one test went.

    Attributes:
        test: which.
        outcome: how it went.
        seconds: how long it took.
        reason: where it stopped or what went wrong, with file and line; empty when it passed.
        prints: what `print` was given.
        cases: of a table.
    """

    test: PolicyTest
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    prints: tuple[str, ...] = ()
    cases: tuple[CaseResult, ...] = ()


class Runner:
    """The tests of one suite. Use it only from the thread that made it."""

    def __init__(self, suite: Suite, *, coverage: bool = False) -> None:
        """Compile the modules.

        Raises:
            PolicyLoadError: with every fault for which the server would refuse them.
        """
        EmbeddedEngine(suite.bundle, [], NoWatch())
        trees = parse(suite.bundle.modules + suite.tests)
        faults = [*check_calls(trees), *check_definitions(trees), *check_recursion(trees)]
        if faults:
            raise PolicyLoadError(faults)
        self._marked: MarkedSuite = mark_tests(trees)
        self._progress = _Progress()
        questions = [test.question for test in self._marked.tests if not test.todo and not test.function]
        extensions: Extensions = {
            MARK: (_MARK_ARGUMENTS, self._progress.mark),
            CASE: (_CASE_ARGUMENTS, self._progress.case),
        }
        self._interpreter = WatchedInterpreter(
            self._marked.modules, suite.bundle.data_at([()]), questions, extensions, coverage=coverage
        )
        self._files = [module.file for module in suite.bundle.modules]

    def matching(self, pattern: str = "") -> list[PolicyTest]:
        """The tests whose full name contains a regular expression, in order of files and lines."""
        return [test for test in self._marked.tests if re.search(pattern, test.full_name)]

    def run(self, test: PolicyTest) -> PolicyTestResult:
        """Run one."""
        if test.todo:
            return PolicyTestResult(test, Outcome.SKIPPED)
        if test.function:
            return PolicyTestResult(test, Outcome.ERROR, reason=f"{test.file}:{test.line}: a test takes no arguments")
        begun = time.perf_counter()
        watched = self._interpreter.evaluate(test.question, before=self._progress.clear)
        seconds = time.perf_counter() - begun
        if watched.error:
            return PolicyTestResult(test, Outcome.ERROR, seconds, watched.error, watched.prints)
        cases = tuple(self._cases(test, watched)) if test.table and watched.defined else ()
        tabled = test.table and watched.defined
        passed = all(case.passed for case in cases) if tabled else watched.value is True
        reason = "" if passed or cases else self._reason(test, (), "is not true" if watched.defined else "is undefined")
        return PolicyTestResult(test, Outcome.PASS if passed else Outcome.FAIL, seconds, reason, watched.prints, cases)

    def coverage(self) -> dict[str, tuple[set[int], set[int]]]:
        """Lines of the policies, without those of `…_test.rego`, that tests evaluated and that none did, by file."""
        covered = self._interpreter.covered()
        return {file: covered.get(file, (set(), set())) for file in self._files}

    def _cases(self, test: PolicyTest, watched: Watched) -> Iterator[CaseResult]:
        found = dict(_leaves(watched.value, ()))
        for name in self._progress.cases:
            if not any(leaf[: len(name)] == name for leaf in found):
                found[name] = False
        for name, passed in found.items():
            yield CaseResult(name, passed, "" if passed else self._reason(test, name, "is not true"))

    def _reason(self, test: PolicyTest, case: tuple[str, ...], otherwise: str) -> str:
        """Where a test, or one of its cases, stopped; when its body held, what its value is."""
        for number in test.bodies:
            body = self._marked.bodies[number]
            stopped = stopped_at(body, self._progress.passed(number, case))
            if stopped is not None:
                return f"{test.file}:{stopped.line}: {stopped.text}"
        return f"{test.file}:{test.line}: its value {otherwise}"


class _Progress:
    """The extensions that marks call: how far each body came, by the case that it was in."""

    def __init__(self) -> None:
        self.cases: dict[tuple[str, ...], None] = {}
        self._current: dict[int, tuple[str, ...]] = {}
        self._passed: dict[tuple[int, tuple[str, ...]], int] = {}

    def clear(self) -> None:
        """Forgets everything."""
        for memory in (self.cases, self._current, self._passed):
            memory.clear()

    def mark(self, number: int, passed: int, _: object) -> bool:
        """So many statements of a body held."""
        key = int(number), self._current.get(int(number), ())
        self._passed[key] = max(int(passed), self._passed.get(key, 0))
        return True

    def case(self, number: int, name: list[str]) -> bool:
        """What follows in a body is a case of this name, whose parts are JSON; texts stand without their quotes."""
        texts = tuple(json.loads(part) if part.startswith('"') else part for part in name)
        self.cases[texts] = None
        self._current[int(number)] = texts
        return True

    def passed(self, number: int, case: tuple[str, ...]) -> int:
        """The most statements of a body that held, in one case."""
        return self._passed.get((number, case), 0)


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The cases of a table's value; what is neither an object nor true has failed."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value is True
