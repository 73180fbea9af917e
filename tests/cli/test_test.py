"""`mixer test` tells how tests went: exit codes, three formats, coverage, and again when a file changes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

GOOD = 'package p_test\n\nimport data.p\n\ntest_one if p.allow with input as {"u": 1}\n'
BAD = GOOD + (
    '\ntest_two if {\n\tprint("said \\u001b[31m")\n\tp.allow\n}\n\ntodo_test_three if false\n\n'
    'test_cases[name] if {\n\tsome name, u in {"good": 1, "b<d": 2}\n\tp.allow with input.u as u\n}\n'
)


@pytest.fixture
def folder(tmp_path):
    """Policies with one good test."""
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "p.rego").write_text("package p\n\nallow if input.u == 1\n\nother if input.v\n")
    (path / "p_test.rego").write_text(GOOD)
    return path


@pytest.fixture
def bad(folder):
    """The same with tests that fail."""
    (folder / "p_test.rego").write_text(BAD)
    return folder


def test_all_pass(mixer, folder):
    result = mixer("test", "bundle")
    assert result.code == 0
    first, last = result.out.splitlines()
    assert first.split() == ["PASS", first.split()[1], "ms", "data.p_test.test_one", "bundle/p_test.rego:5"]
    assert last.startswith("1 passed in ")


def test_a_failure_is_told_with_its_place_and_what_was_printed(mixer, bad):
    result = mixer("test", "bundle")
    assert result.code == 1
    lines = [line.strip() for line in result.out.splitlines()]
    assert "bundle/p_test.rego:9: p.allow" in lines
    assert r"printed at bundle/p_test.rego:8: said \x1b[31m" in lines
    assert "b<d: bundle/p_test.rego:16: p.allow with input.u as u" in lines
    assert any(line.startswith("SKIPPED") for line in lines)
    assert lines[-1].startswith("1 passed, 2 failed, 1 skipped in ")


def test_some_tests(mixer, bad):
    assert mixer("test", "bundle", "--run", r"p_test\.test_one$").code == 0
    nothing = mixer("test", "bundle", "--run", "nowhere")
    assert nothing.code == 1
    assert "no test was found" in nothing.err


def test_as_json(mixer, bad):
    result = mixer("test", "bundle", "--format", "json", "--coverage")
    assert result.code == 1
    found = json.loads(result.out)
    assert {name: found[name] for name in ("passed", "failed", "errors", "skipped")} == {
        "passed": 1, "failed": 2, "errors": 0, "skipped": 1,
    }  # fmt: skip
    tests = {one["name"]: one for one in found["tests"]}
    assert tests["test_one"]["location"] == {"file": "bundle/p_test.rego", "row": 5, "col": 1}
    assert tests["test_two"]["fail"] is True
    assert tests["todo_test_three"]["skip"] is True
    assert tests["test_cases"]["sub_results"]["good"] == {"name": "good"}
    assert tests["test_cases"]["sub_results"]["b<d"]["fail"] is True
    assert found["coverage"]["files"]["bundle/p.rego"]["not_covered"] == [{"start": {"row": 5}, "end": {"row": 5}}]


def test_as_junit(mixer, bad):
    result = mixer("test", "bundle", "--format", "junit")
    assert result.code == 1
    (suite,) = ET.fromstring(result.out)  # noqa: S314 (our own)
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped")} == {
        "name": "data.p_test", "tests": "5", "failures": "2", "errors": "0", "skipped": "1",
    }  # fmt: skip
    failures = {
        case.get("name"): case.find("failure").get("message") for case in suite if case.find("failure") is not None
    }
    assert failures == {
        "test_two": "bundle/p_test.rego:9: p.allow",
        "test_cases[b<d]": "bundle/p_test.rego:16: p.allow with input.u as u",
    }
    assert "said" in next(case.findtext("system-out") for case in suite if case.get("name") == "test_two")


def test_coverage_for_people_and_its_threshold(mixer, folder):
    result = mixer("test", "bundle", "--threshold", "50")
    assert result.code == 0
    assert "bundle/p.rego 50 % 5" in [" ".join(line.split()) for line in result.out.splitlines()]
    low = mixer("test", "bundle", "--threshold", "50.5")
    assert low.code == 1
    assert "coverage is 50 %, below 50.5 %" in low.err


def test_a_policy_that_does_not_load_is_told(mixer, folder):
    (folder / "p.rego").write_text("package p\n\nallow if conut(input.u) == 1\n")
    result = mixer("test", "bundle")
    assert result.code == 1
    assert "bundle/p.rego:3: " in result.err
    assert "did you mean count?" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "DIR"),
        (["nowhere"], "nowhere: there is no such folder or file"),
        (["bundle", "--run", "("], "is no regular expression"),
        (["bundle", "--timeout", "5"], "is not a duration"),
        (["bundle", "--timeout", "0s"], "above 0"),
        (["bundle", "--threshold", "101"], "no percentage"),
        (["bundle", "--format", "xml"], "invalid choice"),
    ],
)
def test_wrong_usage(mixer, folder, words, said):
    result = mixer("test", *words)
    assert result.code == 2
    assert said in result.err


def test_watching_runs_again_when_a_file_changes(folder):
    program = Path(sys.executable).with_name("mixer")
    with subprocess.Popen(
        [program, "test", "bundle", "--watch"], cwd=folder.parent, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert next_summary(process).startswith("1 passed in ")
            (folder / "p_test.rego").write_text(BAD)
            assert next_summary(process).startswith("1 passed, 2 failed, 1 skipped in ")
            (folder / "p_test.rego").write_text("package p_test\n\n(\n")
            time.sleep(0.5)
            (folder / "p_test.rego").write_text(GOOD)
            assert next_summary(process).startswith("1 passed in ")
        finally:
            process.terminate()


def next_summary(process):
    return next(line for line in process.stdout if line[0].isdigit())
