"""Which of OPA's builtins the embedded engine has, with what they take, and which it lacks or must not be asked for.

Names and types are those of OPA 1.22; a test holds them against the engine, and against OPA where it is installed.
"""

from __future__ import annotations

from typing import Final

_BY_ARGUMENTS: Final = {
    "": """
        opa.runtime time.now_ns
    """,
    "*": """
        print
    """,
    "a": """
        array.flatten array.reverse object.union_n
    """,
    "an": """
        time.clock time.date time.format time.weekday
    """,
    "aost": """
        count
    """,
    "at": """
        max min net.cidr_merge product sort sum
    """,
    "bnsz": """
        to_number
    """,
    "n": """
        abs bits.negate ceil floor round
    """,
    "o": """
        object.keys urlquery.encode_object
    """,
    "s": """
        base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad
        crypto.md5 crypto.sha1 crypto.sha256 crypto.x509.parse_and_verify_certificates
        crypto.x509.parse_certificate_request crypto.x509.parse_certificates crypto.x509.parse_rsa_private_key
        glob.quote_meta hex.decode hex.encode io.jwt.decode json.is_valid json.unmarshal lower net.cidr_expand
        net.cidr_is_valid regex.is_valid strings.reverse time.parse_duration_ns time.parse_rfc3339_ns trace
        trim_space units.parse units.parse_bytes upper uri.is_valid uri.parse urlquery.decode
        urlquery.decode_object urlquery.encode uuid.parse uuid.rfc4122 yaml.is_valid yaml.unmarshal
    """,
    "t": """
        intersection union
    """,
    "x": """
        is_array is_boolean is_null is_number is_object is_set is_string json.marshal semver.is_valid
        type_name walk yaml.marshal
    """,
    "a a": """
        array.concat
    """,
    "an an": """
        time.diff
    """,
    "aost aost": """
        net.cidr_contains_matches
    """,
    "aot aot": """
        object.subset
    """,
    "ast ast": """
        strings.any_prefix_match strings.any_suffix_match
    """,
    "n n": """
        bits.and bits.lsh bits.or bits.rsh bits.xor format_int numbers.range
    """,
    "o aot": """
        object.filter object.remove
    """,
    "o at": """
        graph.reachable graph.reachable_paths json.filter json.remove
    """,
    "o o": """
        object.union
    """,
    "o s": """
        strings.replace_n
    """,
    "s a": """
        sprintf
    """,
    "s at": """
        concat
    """,
    "s n": """
        rand.intn
    """,
    "s o": """
        crypto.x509.parse_and_verify_certificates_with_options io.jwt.decode_verify
    """,
    "s s": """
        contains crypto.hmac.equal crypto.hmac.md5 crypto.hmac.sha1 crypto.hmac.sha256 crypto.hmac.sha512
        endswith indexof indexof_n io.jwt.verify_eddsa io.jwt.verify_es256 io.jwt.verify_es384
        io.jwt.verify_es512 io.jwt.verify_hs256 io.jwt.verify_hs384 io.jwt.verify_hs512 io.jwt.verify_ps256
        io.jwt.verify_ps384 io.jwt.verify_ps512 io.jwt.verify_rs256 io.jwt.verify_rs384 io.jwt.verify_rs512
        net.cidr_contains net.cidr_intersects regex.match regex.split semver.compare split startswith
        strings.count time.parse_ns trim trim_left trim_prefix trim_right trim_suffix
    """,
    "x a": """
        json.patch
    """,
    "x o": """
        json.marshal_with_options
    """,
    "a n n": """
        array.slice
    """,
    "n n n": """
        numbers.range_step
    """,
    "o o o": """
        io.jwt.encode_sign
    """,
    "o x x": """
        object.get
    """,
    "s az s": """
        glob.match
    """,
    "s n n": """
        substring
    """,
    "s s n": """
        regex.find_all_string_submatch_n regex.find_n strings.split_n
    """,
    "s s s": """
        io.jwt.encode_sign_raw regex.replace replace
    """,
    "n n n n": """
        time.add_date
    """,
    "s s s s": """
        regex.template_match
    """,
}
"""Names by the kinds that each argument may have: `n`umber, `s`tring, `b`oolean, nu`z`ll, `a`rray, `o`bject, se`t`,
any (`x`); `*` is any number of arguments."""

SPRINTF: Final = "mixer.sprintf"
"""The name under which policies get `sprintf` in Python, where its format has more in it than the engine knows."""

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(kinds.split()) for kinds, names in _BY_ARGUMENTS.items() for name in names.split()
} | {SPRINTF: ("s", "a")}
"""The kinds of each builtin's arguments, by its name."""

SUPPORTED: Final[dict[str, int]] = {name: -1 if kinds == ("*",) else len(kinds) for name, kinds in ARGUMENTS.items()}
"""Number of arguments by name; -1 is any number."""

_OPERATORS: Final = {
    "and": "&",
    "assign": ":=",
    "div": "/",
    "eq": "=",
    "equal": "==",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "minus": "-",
    "mul": "*",
    "neq": "!=",
    "or": "|",
    "plus": "+",
    "rem": "%",
}
_REPLACED: Final = {
    "all": "use `every`",
    "any": "use `some … in`",
    "cast_array": "use a comprehension, or is_array",
    "cast_boolean": "use is_boolean",
    "cast_null": "use is_null",
    "cast_object": "use is_object",
    "cast_set": "use a comprehension, or is_set",
    "cast_string": "use is_string",
    "net.cidr_overlap": "use net.cidr_contains",
    "re_match": "use regex.match",
    "set_diff": "use the operator -",
}
"""OPA refuses these in Rego v1 as well."""
_OPA: Final = "use `engine: opa`"
_ELSEWHERE: Final = {
    "crypto.parse_private_keys": f"{_OPA}, or crypto.x509.parse_rsa_private_key",
    "crypto.x509.parse_keypair": f"{_OPA}, or crypto.x509.parse_certificates and crypto.x509.parse_rsa_private_key",
    "graphql.is_valid": _OPA,
    "graphql.parse": _OPA,
    "graphql.parse_and_verify": _OPA,
    "graphql.parse_query": _OPA,
    "graphql.parse_schema": _OPA,
    "graphql.schema_is_valid": _OPA,
    "http.send": f"let `policy.data` fetch the document, off the request's path, and read it in `data`; or {_OPA}",
    "json.match_schema": _OPA,
    "json.verify_schema": _OPA,
    "net.lookup_ip_addr": f"it would wait for DNS during a request: put addresses into data; or {_OPA}",
    "providers.aws.sign_req": _OPA,
    "regex.globs_match": _OPA,
    "rego.metadata.chain": _OPA,
    "rego.metadata.rule": _OPA,
    "rego.parse_module": _OPA,
    "strings.render_template": f"use sprintf or concat; or {_OPA}",
}

WAYS_OUT: Final[dict[str, str]] = {
    **{name: f"write the operator {operator}" for name, operator in _OPERATORS.items()},
    **_REPLACED,
    **_ELSEWHERE,
}
"""What to do instead, by the name of a builtin of OPA that the embedded engine lacks or would answer wrongly."""

LACKING: Final = frozenset(WAYS_OUT)
"""OPA's builtins that are refused at load. `http.send` the engine has by name only, JSON schemas otherwise than OPA."""
