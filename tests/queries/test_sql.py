from __future__ import annotations

import pytest

from mixer_py.errors import QueryRefusedError
from mixer_py.queries import check_query

PERMITTED = [
    "SELECT * FROM requests",
    "SELECT * FROM mesh.requests;",
    "SELECT 1 FROM requests WHERE a NOT IN (SELECT b FROM requests) AND NOT (c AND NOT d) AND e NOT LIKE 'f'",
    "WITH recent AS (SELECT * FROM requests) SELECT verdict, count() FROM recent GROUP BY verdict",
    "SELECT 1 UNION ALL SELECT 2",
    "SELECT quantile(0.99)(response_duration) FROM requests",
    "SELECT uniqExactIf(request_id, verdict = 'deny') FROM requests",
    "SELECT * FROM requests WHERE decision_id IN (SELECT decision_id FROM decisions WHERE verdict = 'deny')",
    "SELECT * FROM requests WHERE verdict IN ('deny', 'error')",
    "SELECT number FROM numbers(10)",
    "SELECT name FROM system.columns WHERE database = 'mesh'",
    "SELECT ';', '-- no comment', 'INTO OUTFILE'",
    "SELECT count() AS get, verdict AS hostname FROM requests GROUP BY hostname ORDER BY get",
    "SELECT request_host IN ('a'), request_host IN ('a', 'b') FROM requests",
    "SELECT toStartOfMinute(timestamp) AS minute, count() FROM requests GROUP BY minute ORDER BY minute DESC LIMIT 10",
]
REFUSED = {
    "": "0 statements",
    "SELECT 1; SELECT 2": "2 statements",
    "SELECT 1; DROP TABLE requests": "2 statements",
    "DROP TABLE requests": "DROP is not a SELECT",
    "INSERT INTO requests SELECT * FROM requests": "INSERT is not a SELECT",
    "ALTER TABLE requests DELETE WHERE 1": "is not a SELECT",
    "TRUNCATE TABLE requests": "is not a SELECT",
    "SET max_execution_time = 0": "is not a SELECT",
    "SYSTEM SHUTDOWN": "is not a SELECT",
    "EXPLAIN SELECT 1": "is not a SELECT",
    "SHOW TABLES": "is not a SELECT",
    "SELECT FROM WHERE": "cannot be parsed",
    "SELECT 'open": "cannot be parsed",
    "SELECT * FROM requests INTO OUTFILE '/tmp/x'": "cannot be parsed",
    "SELECT * FROM requests INTO OUTFILE '/tmp/x' TRUNCATE FORMAT CSV": "cannot be parsed",
    "SELECT * FROM requests FORMAT CSV": "FORMAT is not allowed",
    "SELECT * FROM requests SETTINGS max_execution_time = 0": "SETTINGS is not allowed",
    "SELECT * FROM (SELECT * FROM requests SETTINGS max_memory_usage = 0)": "SETTINGS is not allowed",
    "SELECT * FROM file('/etc/passwd')": "table function file",
    "SELECT file('/etc/passwd')": "function file",
    "SELECT arrayMap(x -> file(x), ['/etc/passwd'])": "function file",
    "SELECT * FROM url('http://127.0.0.1/', CSV, 'a String')": "table function url",
    "SELECT * FROM requests WHERE request_id IN (SELECT x FROM remote('h', d, t))": "table function remote",
    "SELECT * FROM s3Cluster('a', 'b')": "table function s3cluster",
    "SELECT * FROM mysql('a', 'b', 'c', 'd', 'e')": "table function mysql",
    "SELECT * FROM executable('x', TSV, 'a String')": "table function executable",
    "SELECT * FROM Python(batch)": "table function python",
    "SELECT * FROM merge('mesh', '.*')": "table function merge",
    "SELECT * FROM system.processes": "system.processes is outside",
    "SELECT * FROM other.requests": "other.requests is outside",
    "SELECT * FROM cluster.mesh.requests": "too many parts",
    "SELECT 1 IN system.users": "IN with the name of a table",
    "SELECT dictGet('a', 'b', 1)": "function dictget",
    "SELECT joinGet('mesh.t', 'a', 1)": "function joinget",
    "SELECT sleep(3)": "function sleep",
    "SELECT {name:String}": "parameters are not allowed",
    "SELECT `file`('/etc/passwd')": "function file",
    "SELECT \"file\"('/etc/passwd')": "function file",
    "SELECT FILE('/etc/passwd')": "function file",
    "SELECT * FROM `file`('/etc/passwd')": "table function file",
    "SELECT arrayMap(file, ['/etc/passwd'])": "file is the name of a function",
    "SELECT arrayMap((`file`), ['/etc/passwd'])": "file is the name of a function",
    "SELECT COLUMNS('path') APPLY(file) FROM requests": "APPLY is not allowed",
    "SELECT 1 IN (system.users)": "IN with the name of a table",
    "SELECT 1 NOT IN ((system.users))": "IN with the name of a table",
    "SELECT 1 GLOBAL IN (other.requests)": "IN with the name of a table",
    "SELECT notIn(1, other.requests)": "function notin",
    "SELECT globalNullInIgnoreSet(1, other.requests)": "function globalnullinignoreset",
    "SELECT `in`(1, other.requests)": "function in ",
    "SELECT getSetting('max_threads')": "function getsetting",
    "SELECT hostName()": "function hostname",
    "SELECT logTrace('x')": "function logtrace",
    "SELECT * FROM requests PIVOT (count() FOR verdict IN ('deny'))": "cannot be run",
    "SELECT 1\0": "zero byte",
}


@pytest.mark.parametrize("sql", PERMITTED)
def test_one_select_over_our_database_may_be_sent(sql: str) -> None:
    assert check_query(sql, "mesh").upper().startswith(("SELECT", "WITH"))


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items())
def test_everything_else_is_refused_with_its_reason(sql: str, reason: str) -> None:
    with pytest.raises(QueryRefusedError, match=reason.replace("(", r"\(")):
        check_query(sql, "mesh")


def test_what_the_parser_takes_for_a_comment_does_not_run() -> None:
    assert check_query("SELECT 1 -- ; DROP TABLE requests", "mesh") == "SELECT 1"


WRITTEN = (
    "SELECT currentDatabase(), concat('a', 'b'), position('abc', 'b'), if(1, 2, 3), splitByChar(',', 'a,b'), "
    "median(response_code), quantile(0.5)(response_code), dateDiff('hour', timestamp, now()), left('abc', 1), "
    "map('a', 1), arrayMap(x -> x + 1, [1, 2]), sumIf(response_code, response_code > 1) FROM requests"
)


def test_functions_run_as_they_were_written() -> None:
    """A parser that knows better renames them, and with them the columns of the answer."""
    assert check_query(WRITTEN, "mesh") == WRITTEN


def test_a_query_without_end_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(QueryRefusedError, match="characters"):
        check_query("SELECT " + "1," * 40_000 + "1", "mesh")


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(QueryRefusedError):
        check_query("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, "mesh")
