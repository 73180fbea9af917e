"""Run the tests of policies: rules named `test_…`, in the same way as `opa test`, and tell which lines they evaluated.

Exit 0 when all pass, 1 when one fails, when there is none, or when the policies cannot be loaded, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import base64
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixer_py.cli.main import BAD, GOOD, USAGE, complain
from mixer_py.cli.output import print_json, print_line, print_table, printable
from mixer_py.errors import PolicyLoadError

if TYPE_CHECKING:  # the engine is slow to import, and `--help` needs none
    from mixer_py.policy.testing.apart import Plan
    from mixer_py.policy.testing.coverage import Coverage
    from mixer_py.policy.testing.running import CaseResult, PolicyTestResult

EXAMPLES = (
    "mixer test policies/rbac/bundle --coverage",
    "mixer test policies/rbac/bundle --run 'test_admin' --watch",
    "mixer test policies/rbac/bundle --format junit > results.xml",
)
_MILLISECONDS = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("paths", nargs="+", metavar="DIR", help="a folder or file of policies, data and tests")
    parser.add_argument("--coverage", action="store_true", help="tell which lines of the policies no test evaluated")
    parser.add_argument(
        "--threshold", type=_percent, metavar="PERCENT", help="exit 1 below this coverage (implies --coverage)"
    )
    parser.add_argument("--run", type=_pattern, default="", metavar="REGEX", help="only tests whose full name has this")
    parser.add_argument("--timeout", type=_seconds, default=5.0, metavar="DURATION", help="of one test (default: 5s)")
    parser.add_argument("--v0-compatible", action="store_true", help="policies and tests are written in Rego v0")
    parser.add_argument("--watch", action="store_true", help="run again whenever a file changes")
    parser.add_argument("--format", choices=("table", "json", "junit"), default="table", help="for people, or scripts")


def run(arguments: argparse.Namespace) -> int:
    """Runs the tests, and prints how they went."""
    from mixer_py.policy.testing.apart import Plan  # noqa: PLC0415 (see above)

    for path in arguments.paths:
        if not Path(path).exists():
            complain(f"{path}: there is no such folder or file")
            return USAGE
    coverage = arguments.coverage or arguments.threshold is not None
    version = 0 if arguments.v0_compatible else 1
    plan = Plan(tuple(arguments.paths), arguments.run, arguments.timeout, coverage, version)
    if arguments.watch:
        _watch(plan, arguments)
    return _run_once(plan, arguments)


def _watch(plan: Plan, arguments: argparse.Namespace) -> None:
    """Runs the tests now and whenever a file changes, until it is interrupted."""
    from watchfiles import watch  # noqa: PLC0415 (slow to import)

    changes = watch(*plan.paths, yield_on_timeout=True, raise_interrupt=True, rust_timeout=100)
    next(changes)  # from now on, whatever changes is seen
    changed = True
    while True:
        if changed:
            try:
                _run_once(plan, arguments)
            except PolicyLoadError as error:
                complain(str(error))
            sys.stdout.flush()
        changed = bool(next(changes))


def _run_once(plan: Plan, arguments: argparse.Namespace) -> int:
    from mixer_py.policy.testing.apart import Run  # noqa: PLC0415 (see above)
    from mixer_py.policy.testing.coverage import merge  # noqa: PLC0415
    from mixer_py.policy.testing.running import Outcome  # noqa: PLC0415

    begun = time.perf_counter()
    one, results = Run(plan), []
    for result in one.results():
        results.append(result)
        if arguments.format == "table":
            for line in _lines(result):
                print_line(printable(line))
            sys.stdout.flush()
    coverage = merge(one.covered) if plan.coverage else None
    counts = Counter(result.outcome for result in results)
    good = bool(results) and not counts[Outcome.FAIL] and not counts[Outcome.ERROR]
    if arguments.format == "json":
        print_json(_document(results, counts, coverage))
    elif arguments.format == "junit":
        from mixer_py.cli.junit import junit_text  # noqa: PLC0415 (only needed here)

        print_line(junit_text(results))
    else:
        if coverage is not None:
            _print_coverage(coverage)
        print_line(f"{_summary(counts)} in {time.perf_counter() - begun:.2f} s")
    if not results:
        complain("no test was found; tests are rules named test_…")
    if coverage is not None and arguments.threshold is not None and coverage.percent < arguments.threshold:
        complain(f"coverage is {coverage.percent:g} %, below {arguments.threshold:g} %")
        good = False
    return GOOD if good else BAD


def _lines(result: PolicyTestResult) -> Iterator[str]:
    """A test, and where it did not pass, why."""
    test = result.test
    took = f"{result.seconds * _MILLISECONDS:8.1f} ms"
    yield f"{result.outcome.upper():<8}{took}  {test.full_name}  {test.file}:{test.line}"
    if result.reason:
        yield f"    {result.reason}"
    for case in result.cases:
        if not case.passed:
            yield f"    {_case_name(case)}: {case.reason}"
    if result.outcome in {"fail", "error"}:
        yield from (f"    printed at {line}" for line in result.prints)


def _case_name(case: CaseResult) -> str:
    return " / ".join(case.name)


def _summary(counts: Counter[Any]) -> str:
    words = (("pass", "passed"), ("fail", "failed"), ("error", "in error"), ("skipped", "skipped"))
    return ", ".join(f"{counts[key]} {word}" for key, word in words if counts[key]) or "no tests"


def _print_coverage(coverage: Coverage) -> None:
    rows = [(file.file, f"{file.percent:g} %", _missing(file.missing)) for file in coverage.files]
    print_line("")
    print_table(("file", "covered", "missing lines"), [*rows, ("all", f"{coverage.percent:g} %", "")])
    print_line("")


def _missing(lines: Sequence[int]) -> str:
    from mixer_py.policy.testing.coverage import ranges  # noqa: PLC0415 (see above)

    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in ranges(lines))


def _document(results: Sequence[PolicyTestResult], counts: Counter[Any], coverage: Coverage | None) -> dict[str, Any]:
    """Counts, tests as `opa test --format json` has them with a few keys more, and OPA's coverage report."""
    names = {"passed": "pass", "failed": "fail", "errors": "error", "skipped": "skipped"}
    return {
        **{name: counts[key] for name, key in names.items()},
        "tests": [_plain(result) for result in results],
        **({} if coverage is None else {"coverage": coverage.document()}),
    }


def _plain(result: PolicyTestResult) -> dict[str, Any]:
    test = result.test
    document: dict[str, Any] = {
        "location": {"file": test.file, "row": test.line, "col": 1},
        "package": test.package,
        "name": test.name,
        "outcome": result.outcome,
        "duration": int(result.seconds * 1e9),
    }
    flags = {"fail": "fail", "skip": "skipped"}
    document |= {flag: True for flag, outcome in flags.items() if result.outcome == outcome}
    if result.outcome == "error":
        document["error"] = {"message": result.reason}
    elif result.reason:
        document["reason"] = result.reason
    if result.prints:
        document["output"] = base64.b64encode("".join(f"{line}\n" for line in result.prints).encode()).decode()
    if result.cases:
        document["sub_results"] = _sub_results(result.cases)
    return document


def _sub_results(cases: Sequence[CaseResult]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for case in cases:
        level = root
        for depth, name in enumerate(case.name, start=1):
            entry = level.setdefault(name, {"name": name})
            if not case.passed:
                entry["fail"] = True
            if depth == len(case.name):
                entry |= {"reason": case.reason} if case.reason else {}
            else:
                level = entry.setdefault("sub_results", {})
    return root


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    return text


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage between 0 and 100")
    return value


def _seconds(text: str) -> float:
    from mixer_py.settings import parse_duration  # noqa: PLC0415 (slow to import)

    try:
        value = float(parse_duration(text))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if value <= 0:
        raise argparse.ArgumentTypeError("a timeout is above 0, as in 5s")
    return value
