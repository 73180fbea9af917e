"""What the embedded engine has of Rego's builtins, and which policies it must therefore refuse at load.

The engine itself finds a missing function only when an evaluation reaches it, which may be in a month; a caller would
get an error then. So calls are resolved here, from the syntax tree, by name, arity, file and line. The tables were made
by asking the engine; a test asks it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.errors import Fault

_BY_ARITY: Final = {
    -1: """
        print
    """,
    0: """
        opa.runtime time.now_ns
    """,
    1: """
        abs array.reverse base64.decode base64.encode base64.is_valid base64url.decode base64url.encode
        base64url.encode_no_pad bits.negate ceil count floor glob.quote_meta hex.decode hex.encode intersection
        is_array is_boolean is_null is_number is_object is_set is_string json.is_valid json.marshal
        json.unmarshal json.verify_schema lower max min net.cidr_expand net.cidr_is_valid object.keys
        object.union_n product regex.is_valid round semver.is_valid sort strings.reverse sum time.clock
        time.date time.format time.parse_duration_ns time.parse_rfc3339_ns time.weekday to_number trace
        trim_space type_name union units.parse units.parse_bytes upper urlquery.decode urlquery.decode_object
        urlquery.encode urlquery.encode_object uuid.parse uuid.rfc4122 walk yaml.is_valid yaml.marshal
        yaml.unmarshal
    """,
    2: """
        array.concat bits.and bits.lsh bits.or bits.rsh bits.xor concat contains endswith format_int
        graph.reachable graph.reachable_paths indexof indexof_n json.filter json.marshal_with_options
        json.match_schema json.patch json.remove net.cidr_contains numbers.range object.filter object.remove
        object.subset object.union rand.intn regex.match regex.split semver.compare split sprintf startswith
        strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n time.diff
        time.parse_ns trim trim_left trim_prefix trim_right trim_suffix
    """,
    3: """
        array.slice glob.match numbers.range_step object.get regex.find_all_string_submatch_n regex.find_n
        regex.replace replace substring
    """,
    4: """
        regex.template_match time.add_date
    """,
}
SUPPORTED: Final[dict[str, int]] = {name: arity for arity, names in _BY_ARITY.items() for name in names.split()}
"""Number of arguments by name; -1 is any number."""

LACKING: Final = frozenset(
    """
    all and any array.flatten assign cast_array cast_boolean cast_null cast_object cast_set cast_string
    crypto.hmac.equal crypto.hmac.md5 crypto.hmac.sha1 crypto.hmac.sha256 crypto.hmac.sha512 crypto.md5
    crypto.parse_private_keys crypto.sha1 crypto.sha256 crypto.x509.parse_and_verify_certificates
    crypto.x509.parse_and_verify_certificates_with_options crypto.x509.parse_certificate_request
    crypto.x509.parse_certificates crypto.x509.parse_keypair crypto.x509.parse_rsa_private_key div eq equal
    graphql.is_valid graphql.parse graphql.parse_and_verify graphql.parse_query graphql.parse_schema
    graphql.schema_is_valid gt gte http.send io.jwt.decode io.jwt.decode_verify io.jwt.encode_sign
    io.jwt.encode_sign_raw io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384 io.jwt.verify_es512
    io.jwt.verify_hs256 io.jwt.verify_hs384 io.jwt.verify_hs512 io.jwt.verify_ps256 io.jwt.verify_ps384
    io.jwt.verify_ps512 io.jwt.verify_rs256 io.jwt.verify_rs384 io.jwt.verify_rs512 lt lte minus mul neq
    net.cidr_contains_matches net.cidr_intersects net.cidr_merge net.cidr_overlap net.lookup_ip_addr or plus
    providers.aws.sign_req re_match regex.globs_match rego.metadata.chain rego.metadata.rule rego.parse_module rem
    set_diff strings.render_template strings.split_n uri.is_valid uri.parse
    """.split()  # noqa: SIM905 (a table of words reads better than a list of literals)
)
"""OPA's builtins that the engine does not have; `http.send` it has by name only, and it is always undefined."""

WAY_OUT: Final = "use `engine: opa` when this version has it, or write the rule without it"


@dataclass(frozen=True, slots=True)
class Call:
    """A function call in a module.

    Attributes:
        path: the name's parts as written, `("io", "jwt", "decode")`.
        arguments: how many are given.
        line: 1-based line of the name.
        start: where the name starts in the module's UTF-8 text, in bytes.
        end: where it ends.
    """

    path: tuple[str, ...]
    arguments: int
    line: int
    start: int
    end: int


def ref_path(node: Any) -> tuple[str, ...] | None:  # noqa: ANN401 (a node of the engine's syntax tree, which is JSON)
    """Parts of a constant reference such as `data.a["b"]`; None when it is no constant one."""
    parts: list[str] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "Var":
            return (value["value"], *reversed(parts))
        if kind == "RefDot":
            parts.append(value["field"][1])
        elif kind == "RefBrack" and "String" in value["index"]:
            parts.append(value["index"]["String"]["value"])
        else:
            return None
        node = value["refr"]


def find_calls(node: Any) -> Iterator[Call]:  # noqa: ANN401 (a node of the engine's syntax tree, which is JSON)
    """All calls below a node, those in arguments of calls too."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            call = current.get("Call")
            if isinstance(call, dict) and "fcn" in call:
                path = ref_path(call["fcn"])
                if path is not None:
                    (function,) = call["fcn"].values()
                    span = function["span"]
                    yield Call(path, len(call["params"]), span["line"], span["start"], span["end"])
            pending.extend(value for value in current.values() if isinstance(value, (dict, list)))


class Functions:
    """Which function a call in a module means: one of the policies' own, or a builtin."""

    def __init__(self, trees: Sequence[Any]) -> None:
        """Learn the functions that `trees`, all modules' syntax trees, define."""
        self._own: set[tuple[str, ...]] = set()
        for tree in trees:
            module = tree["ast"]
            package = _package(module)
            self._own.update(package + path for path in map(_function_path, module["rules"]) if path is not None)

    def builtin(self, call: Call, tree: Any) -> str | None:  # noqa: ANN401 (JSON)
        """Name of the builtin that a call in a module means; None when it means a function of the policies."""
        if _package(tree["ast"]) + call.path in self._own:
            return None
        target = _imports(tree).get(call.path[0])
        full = (*target, *call.path[1:]) if target is not None else call.path
        return None if full in self._own else ".".join(full)


def check_calls(trees: Sequence[Any]) -> list[Fault]:
    """Faults of all calls that the engine could not make: lacking builtins, undefined functions, wrong arity."""
    functions = Functions(trees)
    faults: list[Fault] = []
    for tree in trees:
        file = tree["source"]["file"]
        calls = sorted(find_calls(tree["ast"]["rules"]), key=lambda call: call.start)
        for call in calls:
            name = functions.builtin(call, tree)
            if name is None:
                continue
            arity = SUPPORTED.get(name)
            if name in LACKING:
                faults.append(Fault(f"the embedded engine lacks the builtin {name}", file, call.line, way_out=WAY_OUT))
            elif arity is None:
                faults.append(Fault(f"function {name} is not defined", file, call.line))
            elif arity >= 0 and call.arguments not in {arity, arity + 1}:  # one more: the output as an argument
                faults.append(
                    Fault(f"builtin {name} takes {arity} arguments, {call.arguments} are given", file, call.line)
                )
    return faults


def _package(module: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    return ("data", *(ref_path(module["package"]["refr"]) or ()))


def _imports(tree: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401 (JSON)
    """Paths by the name under which a module imports them."""
    text = tree["source"]["contents"].encode()
    names: dict[str, tuple[str, ...]] = {}
    for entry in tree["ast"]["imports"]:
        path, alias = ref_path(entry["refr"]), entry.get("as")
        if path is not None and path[0] in {"data", "input"}:
            names[path[-1] if alias is None else text[alias["start"] : alias["end"]].decode()] = path
    return names


def _function_path(rule: Any) -> tuple[str, ...] | None:  # noqa: ANN401 (JSON)
    """Path of the function that a rule defines, within its package; None when it defines something else."""
    if "Spec" in rule:
        function = rule["Spec"]["head"].get("Func")
        return ref_path(function["refr"]) if function is not None else None
    default = rule.get("Default")
    return ref_path(default["refr"]) if default is not None and default["args"] else None
