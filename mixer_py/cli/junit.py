"""JUnit's XML of test results, as CI systems read it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from mixer_py.policy.testing.running import Outcome, PolicyTestResult

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def junit_text(results: Sequence[PolicyTestResult]) -> str:
    """One suite a package, one case a test; each case of a table is one of its own."""
    root = ET.Element("testsuites", name="mixer test")
    for package in dict.fromkeys(result.test.package for result in results):
        own = [result for result in results if result.test.package == package]
        suite = ET.SubElement(root, "testsuite", name=_text(package))
        for result in own:
            _add_cases(suite, result)
        _count(suite, suite.iter("testcase"), sum(result.seconds for result in own))
    _count(root, root.iter("testcase"), sum(result.seconds for result in results))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _add_cases(suite: ET.Element, result: PolicyTestResult) -> None:
    if not result.cases:
        _add_case(suite, result, "", result.outcome, result.reason)
    for index, case in enumerate(result.cases):
        outcome = Outcome.PASS if case.passed else Outcome.FAIL
        name = "".join(f"[{part}]" for part in case.name)
        _add_case(suite, result, name, outcome, case.reason, timed=index == 0)


def _add_case(
    suite: ET.Element, result: PolicyTestResult, case: str, outcome: Outcome, reason: str, *, timed: bool = True
) -> None:
    test = result.test
    attributes = {
        "classname": test.package,
        "name": test.name + case,
        "file": test.file,
        "line": str(test.line),
        "time": f"{result.seconds if timed else 0:.6f}",
    }
    element = ET.SubElement(suite, "testcase", {key: _text(value) for key, value in attributes.items()})
    if outcome is Outcome.SKIPPED:
        ET.SubElement(element, "skipped")
    elif outcome is not Outcome.PASS:
        kind = "failure" if outcome is Outcome.FAIL else "error"
        ET.SubElement(element, kind, message=_text(reason)).text = _text(reason)
    if result.prints and timed:
        ET.SubElement(element, "system-out").text = _text("\n".join(result.prints))


def _count(element: ET.Element, cases: Iterable[ET.Element], seconds: float) -> None:
    every = list(cases)
    element.set("tests", str(len(every)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(kind) is not None for case in every)))
    element.set("time", f"{seconds:.6f}")


def _text(text: str) -> str:
    r"""The text with what XML cannot say as `\xNN`."""
    return _FORBIDDEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
