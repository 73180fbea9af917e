"""Run tests in a process of their own: the engine cannot be interrupted, so a test that takes too long ends with it.

The process is started again for the tests that are left.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.testing.coverage import Lines
from mixer_py.policy.testing.running import Outcome, PolicyTestResult, Runner
from mixer_py.policy.testing.suite import PolicyTest, read_suite

_JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        paths: folders and files.
        pattern: regular expression that a test's full name contains.
        timeout: seconds that one test may take.
        coverage: remember covered lines.
        rego_version: that the policies and tests are written in, 0 or 1.
    """

    paths: tuple[str, ...]
    pattern: str = ""
    timeout: float = 5.0
    coverage: bool = False
    rego_version: int = 1


@dataclass(slots=True)
class Run:
    """Runs a plan once; `covered` is filled while it does."""

    plan: Plan
    covered: list[Lines] = field(default_factory=list)

    def results(self) -> Iterator[PolicyTestResult]:
        """Each test's result as soon as it is known.

        Raises:
            PolicyLoadError: with every fault for which the server would refuse the policies, or in the tests.
        """
        passed, waiting = 0, True
        while waiting:
            waiting = False
            for result, ended in self._results_of_one_process(passed):
                passed += 1
                waiting = ended
                yield result

    def _results_of_one_process(self, first: int) -> Iterator[tuple[PolicyTestResult, bool]]:
        """Results of the tests from `first` on, each with whether it has ended the process."""
        # A fork is faster, but a lock that another thread holds would stay locked in it.
        context = multiprocessing.get_context("fork" if threading.active_count() == 1 else "spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run_all, args=(theirs, self.plan, first), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        try:
            tests = _receive_tests(ours)
            for test in tests:
                if not ours.poll(self.plan.timeout):
                    reason = f"{test.file}:{test.line}: takes longer than {self.plan.timeout:g} s"
                    yield PolicyTestResult(test, Outcome.ERROR, self.plan.timeout, reason), True
                    return
                try:
                    result: PolicyTestResult = ours.recv()
                except EOFError:
                    reason = f"{test.file}:{test.line}: the engine ended its process"
                    yield PolicyTestResult(test, Outcome.ERROR, 0.0, reason), True
                    return
                yield result, False
            self.covered.append(ours.recv())
        finally:
            ours.close()
            process.kill()
            process.join(_JOIN_SECONDS)


def _receive_tests(connection: Connection) -> Sequence[PolicyTest]:
    try:
        first: Sequence[PolicyTest] | Sequence[Fault] = connection.recv()
    except EOFError:
        raise PolicyLoadError([Fault("the engine ended its process while it loaded the policies")]) from None
    if first and isinstance(first[0], Fault):
        raise PolicyLoadError([one for one in first if isinstance(one, Fault)])
    return [one for one in first if isinstance(one, PolicyTest)]


def _run_all(connection: Connection, plan: Plan, first: int) -> None:
    """In the process: sends faults or tests, then results, then covered lines."""
    try:
        runner = Runner(read_suite(plan.paths, plan.rego_version), coverage=plan.coverage)
    except PolicyLoadError as error:
        connection.send(list(error.faults))
        return
    tests = runner.matching(plan.pattern)[first:]
    connection.send(tests)
    for test in tests:
        connection.send(runner.run(test))
    connection.send(runner.coverage())
