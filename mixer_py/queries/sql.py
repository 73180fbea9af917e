"""Which SQL a reader may run: one SELECT over our own database, and nothing that reaches out of it.

Parsed with sqlglot, never matched by pattern; what the parser does not understand is refused. Limits of time, rows
and memory are set by whoever runs it, so a query may not set any.
"""

from __future__ import annotations

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from mixer_py.errors import QueryRefusedError

MAX_LENGTH = 64 * 1024
_TABLE_FUNCTIONS = frozenset({"numbers", "zeros", "generate_series", "generateseries", "values", "view"})
"""Table functions that read nothing from outside: no file, url, s3, remote, mysql, executable, Python and the like."""
_DATABASES = frozenset({"system", "information_schema"})
_SYSTEM_TABLES = frozenset({"columns", "tables", "parts", "functions", "one", "numbers"})
"""What of `system` tells about the rows and not about the machine."""
_FUNCTIONS = frozenset(
    {"file", "catboostevaluate", "modelevaluate", "hascolumnintable", "reversednsquery", "showcertificate",
     "hostname", "fqdn", "demangle", "buildid", "serveruuid", "server_uuid", "naivebayesclassifier", "evalmlmethod"}
)  # fmt: skip
_FUNCTION_FAMILIES = ("dict", "joinget", "filesystem", "sleep", "get", "addressto", "ai")
"""Functions that read outside of the rows, or only waste time: by name, and by how their names begin."""
_ALLOWED_FAMILIES = frozenset({"getsubcolumn"})


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
    try:
        statements = [statement for statement in parse(sql, read="clickhouse") if statement is not None]
    except (SqlglotError, RecursionError) as error:
        raise QueryRefusedError(f"the query cannot be parsed: {_first_line(error)}") from None
    if len(statements) != 1:
        raise QueryRefusedError(f"{len(statements)} statements were sent; send one SELECT")
    statement = statements[0]
    if not isinstance(statement, exp.Query):
        raise QueryRefusedError(f"{statement.key.upper()} is not a SELECT; only SELECT may be sent")
    ctes = _names_of_ctes(statement)
    for node in statement.walk():
        _check_node(node, database, ctes)
    return statement.sql(dialect="clickhouse", normalize_functions=False, comments=False)


def _names_of_ctes(statement: exp.Query) -> frozenset[str]:
    return frozenset(cte.alias.lower() for cte in statement.find_all(exp.CTE))


def _check_node(node: exp.Expr, database: str, ctes: frozenset[str]) -> None:
    if isinstance(node, (exp.DDL, exp.DML, exp.Command, exp.Into)) and not isinstance(node, exp.Query):
        raise QueryRefusedError(f"{node.key.upper()} is not allowed in a query")
    if isinstance(node, exp.Query):
        _check_clauses(node)
    if isinstance(node, exp.Table):
        _check_table(node, database, ctes)
    elif isinstance(node, exp.Func):
        _check_function(node)
    elif isinstance(node, exp.In) and node.args.get("field") is not None:
        raise QueryRefusedError("IN with the name of a table is not allowed; write IN (SELECT …)")
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
    reaches_out = name in _FUNCTIONS or (name.startswith(_FUNCTION_FAMILIES) and name not in _ALLOWED_FAMILIES)
    if reaches_out:
        raise QueryRefusedError(f"the function {name} is not allowed in a query")


def _function_name(function: exp.Func) -> str:
    if isinstance(function, exp.Anonymous | exp.CombinedAggFunc | exp.ParameterizedAgg | exp.AnonymousAggFunc):
        return str(function.this).lower()
    return function.sql_name().lower()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
