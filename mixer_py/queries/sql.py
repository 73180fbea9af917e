"""Which SQL a reader may run: one SELECT over our own database, and nothing that reaches out of it.

Parsed with sqlglot, never matched by pattern; what the parser does not understand is refused. No setting of chDB stops
its functions from reading the machine's files, so what passes here is all that stands between a query and those. Limits
of time, rows and memory are set by whoever runs it, so a query may not set any.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from sqlglot import exp, parse
from sqlglot.dialects.clickhouse import ClickHouse
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.parsers.clickhouse import ClickHouseParser

from mixer_py.errors import QueryRefusedError

MAX_LENGTH = 64 * 1024
_TABLE_FUNCTIONS = frozenset({"numbers", "zeros", "generate_series", "generateseries", "values", "view"})
"""Table functions that read nothing from outside: no file, url, s3, remote, mysql, executable, Python and the like."""
_DATABASES = frozenset({"system", "information_schema"})
_SYSTEM_TABLES = frozenset({"columns", "tables", "parts", "functions", "one", "numbers"})
"""What of `system` tells about the rows and not about the machine."""
_REACHING_OUT: Final = re.compile(
    r"(dict(get|has|isin)|joinget|filesystem|sleep|get[a-z]{4}|addressto"
    r"|ai(classify|embed|extract|filter|generate|redact|similarity|translate)).*"
    r"|file|hascolumnintable|catboostevaluate|modelevaluate|reversednsquery|showcertificate|demangle|logtrace"
    r"|naivebayesclassifier|evalmlmethod"
    r"|(global)?(not)?(null)?in(ignoreset)?",  # as functions these take the name of any table
    re.IGNORECASE,
)
"""Functions that read outside of the rows, or only waste time."""
_ALLOWED: Final = frozenset({"getsubcolumn"})
_ABOUT_THE_MACHINE: Final = frozenset({"hostname", "fullhostname", "fqdn", "buildid", "serveruuid", "server_uuid"})
"""Refused as functions only: without an argument they cannot be handed to another function, and make good aliases."""
_SYNTAX: Final = ("CAST", "COLUMNS", "EXTRACT", "SUBSTRING", "TRIM")
"""Functions whose arguments may be more than expressions, as in CAST(1 AS String)."""


class _Verbatim(ClickHouse):
    """ClickHouse's dialect with every function left as it was written, so that what is checked is what runs."""

    class Parser(ClickHouseParser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {name: ClickHouseParser.FUNCTION_PARSERS[name] for name in _SYNTAX}
        NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            "CASE": ClickHouseParser.NO_PAREN_FUNCTION_PARSERS["CASE"]
        }


def check_query(sql: str, database: str) -> str:
    """The query to run for what a person sent.

    Args:
        sql: what was sent.
        database: the configured one; other databases than this and a part of `system` are refused.

    Returns:
        The SELECT, written anew from what was parsed and checked: what the parser did not see does not run.

    Raises:
        QueryRefusedError: it says what is wrong, and what may be sent.
    """
    if len(sql) > MAX_LENGTH:
        raise QueryRefusedError(f"the query has {len(sql)} characters; {MAX_LENGTH} are the most")
    if "\0" in sql:
        raise QueryRefusedError("the query holds a zero byte")
    statement = _parsed(sql)
    ctes = _names_of_ctes(statement)
    for node in statement.walk():
        _check_node(node, database, ctes)
    written = _written(statement)
    if _bare(_parsed(written)) != _bare(statement):  # what runs has to be what was checked
        raise QueryRefusedError("the query cannot be written as it was understood; write it simpler")
    return written


def _parsed(sql: str) -> exp.Query:
    """The one SELECT in a text.

    Raises:
        QueryRefusedError: there is none, or more.
    """
    try:
        statements = [statement for statement in parse(sql, read=_Verbatim) if statement is not None]
    except (SqlglotError, RecursionError) as error:
        raise QueryRefusedError(f"the query cannot be parsed: {_first_line(error)}") from None
    if len(statements) != 1:
        raise QueryRefusedError(f"{len(statements)} statements were sent; send one SELECT")
    statement = statements[0]
    if not isinstance(statement, exp.Query):
        raise QueryRefusedError(f"{statement.key.upper()} is not a SELECT; only SELECT may be sent")
    return statement


def _written(statement: exp.Query) -> str:
    try:
        return statement.sql(
            dialect=_Verbatim, normalize_functions=False, comments=False, unsupported_level=ErrorLevel.RAISE
        )
    except (SqlglotError, RecursionError) as error:  # what cannot be written would be left out in silence
        raise QueryRefusedError(f"the query cannot be run: {_first_line(error)}") from None


def _bare(statement: exp.Query) -> exp.Expr:
    """Without parentheses, which say in a tree what the tree itself says: `a NOT IN b` is written as NOT (a IN b)."""
    return statement.copy().transform(lambda node: node.unnest() if isinstance(node, exp.Paren) else node)


def _names_of_ctes(statement: exp.Query) -> frozenset[str]:
    return frozenset(cte.alias.lower() for cte in statement.find_all(exp.CTE))


def _check_node(node: exp.Expr, database: str, ctes: frozenset[str]) -> None:
    if isinstance(node, (exp.DDL, exp.DML, exp.Command, exp.Into)) and not isinstance(node, exp.Query):
        raise QueryRefusedError(f"{node.key.upper()} is not allowed in a query")
    if isinstance(node, exp.Apply):
        raise QueryRefusedError("APPLY is not allowed in a query; write the function for each column")
    if isinstance(node, exp.Query):
        _check_clauses(node)
    if isinstance(node, exp.Table):
        _check_table(node, database, ctes)
    elif isinstance(node, exp.Func):
        _check_function(node)
    elif isinstance(node, exp.Column):
        _check_column(node)
    elif isinstance(node, exp.In):
        _check_in(node)
    elif isinstance(node, exp.Parameter | exp.Placeholder):
        raise QueryRefusedError("parameters are not allowed in a query; write the value")


def _check_clauses(query: exp.Query) -> None:
    for clause, name in (("settings", "SETTINGS"), ("format", "FORMAT"), ("into", "INTO")):
        if query.args.get(clause):
            raise QueryRefusedError(f"{name} is not allowed in a query; mixer sets limits and format")


def _check_table(table: exp.Table, database: str, ctes: frozenset[str]) -> None:
    inner = table.this
    if isinstance(inner, exp.Func):
        name = _function_name(inner)
        if name not in _TABLE_FUNCTIONS:
            raise QueryRefusedError(f"the table function {name} is not allowed; query the tables of {database}")
        return
    named = table.db.lower()
    if table.catalog:
        raise QueryRefusedError(f"{table.catalog}.{table.db}.{table.name} has too many parts; write database.table")
    if not named or (table.name.lower() in ctes and not named):
        return
    if named == "system" and table.name.lower() in _SYSTEM_TABLES:
        return
    if named in _DATABASES or table.db != database:
        raise QueryRefusedError(f"{table.db}.{table.name} is outside of the database {database}")


def _check_function(function: exp.Func) -> None:
    name = _function_name(function)
    if _reaches_out(name) or name in _ABOUT_THE_MACHINE:
        raise QueryRefusedError(f"the function {name} is not allowed in a query")


def _check_column(column: exp.Column) -> None:
    """A bare name may be a function's: `arrayMap(file, …)` calls it for each element."""
    if not column.table and _reaches_out(column.name):
        raise QueryRefusedError(
            f"{column.name} is the name of a function that is not allowed in a query; "
            f"for a column write its table too, as in requests.{column.name}"
        )


def _check_in(node: exp.In) -> None:
    """A single name on the right is that of a table, with brackets around it or without, of any database."""
    single = node.expressions[0].unnest() if len(node.expressions) == 1 else None
    if node.args.get("field") is not None or isinstance(single, exp.Column | exp.Dot):
        raise QueryRefusedError("IN with the name of a table is not allowed; write IN (SELECT …), or = for a column")


def _reaches_out(name: str) -> bool:
    return _REACHING_OUT.fullmatch(name) is not None and name.lower() not in _ALLOWED


def _function_name(function: exp.Func) -> str:
    """As it was written, without quotes, in lower case."""
    if isinstance(function, exp.Anonymous | exp.CombinedAggFunc | exp.ParameterizedAgg | exp.AnonymousAggFunc):
        written = function.this
        return (written.name if isinstance(written, exp.Identifier) else str(written)).lower()
    return function.sql_name().lower()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
