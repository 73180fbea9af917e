"""Tests of policies run as `opa test` runs them, say where they stopped, and cannot run for ever."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.testing.apart import Plan, Run
from mixer_py.policy.testing.coverage import merge, ranges
from mixer_py.policy.testing.running import Outcome, PolicyTestResult, Runner
from mixer_py.policy.testing.suite import read_suite
from tests.parts.presence import find_server

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path.name for path in (ROOT / "policies").iterdir() if path.is_dir())

POLICY = """package p

default allow := false

allow if {
	input.user == data.known.user
}

allow if {
	startswith(input.user, "x")
}

now := time.now_ns()

twice(x) := x * 2

spoken if print("said", input.user)

never if {
	input.a
	input.b
}
"""
TESTS = """package p_test

import data.p

test_const["one"] := true
test_const2["one"] if true
test_fn(x) := x
test_set contains "a"
test_dup if true
test_dup if false
test_dup := true
default test_def := false
test_def if false
ns.test_in if true
ns.test_in2.deep if true
ns.test_dyn[x] if { some x in ["a", "b"]; x == "a" }
test_two[a][b] if { some a in ["p", "q"]; some b in [1, 2]; b == 1 }
test_empty[x] if { some x in []; x == 1 }
todo_test_d if true
todo_test_d if false
test_note[tc.note] if { some tc in [{"note": "n1", "v": 1}, {"note": "n2", "v": 2}]; tc.v == 1 }
test_num[n] := v if { some n in [1,2]; v := n == 1 }
test_keyfirst["k"] if { input.x == 1 }
test_else := true if { false } else := true
test_keys[x] if { some x in [1.5, null, true, [1, "a"], {{"a": 1}}, "q\\"x"]; x != true }
test_nested[x] := {"a": true, "b": false} if { some x in ["1"] }
test_string := "x"
test_input_is_undefined if not input
test_object := {"a": true}
test_data if p.allow with input as {"user": "ann"} with data.known.user as "ann"
test_builtin_error if not p.allow with input as {"user": 7}
test_builtin_error_itself if startswith(input.user, "x") with input as {"user": 7}
test_mocked_builtin if p.now == 5 with time.now_ns as 5
mock(_) := 7
test_mocked_function if p.twice(2) == 7 with p.twice as mock
test_mocked_count if count([1]) == 7 with count as mock
test_mock_and_error if {
	not p.allow with input as {"user": 7}
	p.now == 5 with time.now_ns as 5
}
test_objects[name] if {
	some name, tc in {"one": {"user": "xa", "want": true}, "two": {"user": "y", "want": true}}
	p.allow == tc.want with input as {"user": tc.user}
}
test_printing if {
	p.spoken with input as {"user": "eve"}
	print("then")
	false
}
test_every if every x in [1, 2] { x < 2 }
test_text_at_the_end if input.a == "b" with input.a as "b"
test_object_at_the_beginning if {
	{"a": 1, "b": 2}[input.k] == 1 with input.k as "a"
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.rego").write_text(POLICY)
    (tmp_path / "p_test.rego").write_text(TESTS)
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "data.json").write_text('{"user": "bob"}')
    return tmp_path


def run_all(*paths: Path, coverage: bool = False) -> dict[str, PolicyTestResult]:
    runner = Runner(read_suite([str(path) for path in paths]), coverage=coverage)
    return {f"{test.name}:{test.line}": runner.run(test) for test in runner.matching()}


def opa_results(*paths: Path) -> dict[str, Any]:
    program = find_server("opa")
    assert program is not None
    done = subprocess.run(
        [program, "test", "--format=json", *paths], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in {0, 2}, done.stderr
    return {f"{one['name']}:{one['location']['row']}": one for one in json.loads(done.stdout)}


def outcome_of_opa(result: dict[str, Any]) -> str:
    return next(
        (outcome for outcome, key in (("error", "error"), ("fail", "fail"), ("skipped", "skip")) if result.get(key)),
        "pass",
    )


def cases_of_opa(results: dict[str, Any], name: tuple[str, ...] = ()) -> dict[tuple[str, ...], bool]:
    found = {}
    for key, one in results.items():
        below = one.get("sub_results")
        found.update(cases_of_opa(below, (*name, key)) if below else {(*name, key): not one.get("fail", False)})
    return found


def assert_as_opa(*paths: Path) -> None:
    ours, theirs = run_all(*paths), opa_results(*paths)
    assert {name: str(result.outcome) for name, result in ours.items()} == {
        name: outcome_of_opa(result) for name, result in theirs.items()
    }
    assert {name: {case.name: case.passed for case in result.cases} for name, result in ours.items()} == {
        name: cases_of_opa(result.get("sub_results", {})) for name, result in theirs.items()
    }


@pytest.mark.opa
def test_every_form_of_a_test_goes_as_in_opa(folder: Path) -> None:
    assert_as_opa(folder)


@pytest.mark.opa
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_tests_pass_here_and_in_opa(sample: str) -> None:
    bundle = ROOT / "policies" / sample / "bundle"
    assert_as_opa(bundle)
    assert {result.outcome for result in run_all(bundle).values()} == {Outcome.PASS}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_tests_cover_every_line(sample: str) -> None:
    runner = Runner(read_suite([str(ROOT / "policies" / sample / "bundle")]), coverage=True)
    for test in runner.matching():
        runner.run(test)
    coverage = merge([runner.coverage()])
    assert coverage.files
    assert [(file.file, file.missing) for file in coverage.files if file.missing] == []


def test_a_failure_says_where_it_stopped(folder: Path) -> None:
    results = {name.partition(":")[0]: result for name, result in run_all(folder).items()}
    file = str(folder / "p_test.rego")
    lines = TESTS.splitlines()

    def line(start: str) -> int:
        return 1 + next(index for index, text in enumerate(lines) if text.strip().startswith(start))

    wanted = {
        "test_printing": f"{file}:{line('false')}: false",
        "test_every": f"{file}:{line('test_every')}: every x in [1, 2] {{ x < 2 }}",
        "test_string": f"{file}:{line('test_string')}: its value is not true",
        "test_fn": f"{file}:{line('test_fn')}: a test takes no arguments",
        "test_builtin_error_itself": (
            f'{file}:{line("test_builtin_error_itself")}: startswith(input.user, "x") with input as {{"user": 7}}'
        ),
    }
    assert {name: results[name].reason for name in wanted} == wanted
    cases = {case.name[0]: case.reason for case in results["test_objects"].cases}
    assert cases == {
        "one": "",
        "two": f'{file}:{line("p.allow == tc.want")}: p.allow == tc.want with input as {{"user": tc.user}}',
    }
    assert results["test_printing"].prints == (
        f"{folder / 'p.rego'}:17: said eve", f"{file}:{line('print(')}: then",
    )  # fmt: skip


def test_coverage_is_of_policies_and_by_line(folder: Path) -> None:
    runner = Runner(read_suite([str(folder)]), coverage=True)
    for test in runner.matching("test_(data|mocked_builtin)$"):
        runner.run(test)
    (file,) = merge([runner.coverage()]).files
    assert file.file == str(folder / "p.rego")
    assert {6, 13} <= set(file.covered)
    assert {15, 17, 20, 21} <= set(file.missing)
    document = merge([runner.coverage()]).document()
    assert document["files"][file.file]["not_covered_lines"] == len(file.missing)
    assert document["coverage"] == file.percent < 100


@pytest.mark.parametrize(
    "test",
    [
        'test_a if every p in [{"x": 2}] { p.x == 2 }',
        'test_a if { p := {"x": 2}; p.x == 2 }',
        'f(p) := p.x\n\ntest_a if f({"x": 2}) == 2',
    ],
)
def test_a_variable_that_is_named_as_an_import_stays_one(tmp_path: Path, test: str) -> None:
    (tmp_path / "p.rego").write_text("package p\n\nx := 1\n")
    (tmp_path / "p_test.rego").write_text(f"package p_test\n\nimport data.p\n\n{test}\n")
    assert {result.outcome for result in run_all(tmp_path).values()} == {Outcome.PASS}


def test_coverage_of_several_runs() -> None:
    whole = merge([{"a": ({1, 2}, {3, 4})}, {"a": ({3}, {1, 2, 4}), "b": (set(), set())}])
    assert [(one.file, one.covered, one.missing, one.percent) for one in whole.files] == [
        ("a", (1, 2, 3), (4,), 75.0), ("b", (), (), 100.0),
    ]  # fmt: skip
    assert list(ranges([1, 2, 4, 7, 8, 9])) == [(1, 2), (4, 4), (7, 9)]
    assert list(ranges([])) == []


def test_what_the_server_refuses_is_refused(folder: Path) -> None:
    (folder / "p.rego").write_text(POLICY + '\nlookup := net.lookup_ip_addr("x")\n')
    with pytest.raises(PolicyLoadError, match=r"p\.rego:24: .*net\.lookup_ip_addr"):
        Runner(read_suite([str(folder)]))


def test_a_fault_in_a_test_has_its_place(folder: Path) -> None:
    (folder / "p_test.rego").write_text("package p_test\n\ntest_a if conut([1]) == 1\n")
    with pytest.raises(PolicyLoadError, match=r"p_test\.rego:3: .*conut"):
        Runner(read_suite([str(folder)]))
    (folder / "p_test.rego").write_bytes(b"\xff")
    with pytest.raises(PolicyLoadError, match=r"p_test\.rego: cannot be read"):
        read_suite([str(folder)])


def test_files_and_folders_of_tests_only(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    apart = tmp_path_factory.mktemp("tests")
    (folder / "p_test.rego").rename(apart / "p_test.rego")
    assert run_all(folder) == {}
    assert "test_data:" in " ".join(run_all(folder, apart))
    assert "test_data:" in " ".join(run_all(folder, apart / "p_test.rego"))


SLOW = """package slow_test

test_before if true

test_slow if {
	some x in numbers.range(1, 3000)
	some y in numbers.range(1, 3000)
	x + y == 0
}

test_after if true
"""


def test_a_test_that_takes_too_long_ends_alone(tmp_path: Path) -> None:
    (tmp_path / "slow_test.rego").write_text(SLOW)
    results = list(Run(Plan((str(tmp_path),), timeout=0.5)).results())
    assert [(result.test.name, str(result.outcome)) for result in results] == [
        ("test_before", "pass"), ("test_slow", "error"), ("test_after", "pass"),
    ]  # fmt: skip
    assert results[1].reason == f"{tmp_path / 'slow_test.rego'}:5: takes longer than 0.5 s"


def test_a_process_tells_faults_and_covered_lines(folder: Path) -> None:
    run = Run(Plan((str(folder),), pattern="test_data", coverage=True))
    assert [result.outcome for result in run.results()] == [Outcome.PASS]
    assert merge(run.covered).percent > 0
    (folder / "p.rego").write_text("package p\n\nallow :=\n")
    with pytest.raises(PolicyLoadError, match=r"p\.rego:"):
        list(Run(Plan((str(folder),))).results())
