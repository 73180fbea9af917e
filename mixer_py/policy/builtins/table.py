"""Which of Rego's builtins the embedded engine has, and which of OPA's it lacks.

The tables were made by asking the engine; a test asks it again.
"""

from __future__ import annotations

from typing import Final

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
