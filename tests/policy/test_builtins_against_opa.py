"""Builtins and numbers in the embedded engine against a real OPA, by single expressions.

What is known to differ is a table of docs/rego.md; an entry that no longer does fails, so that it leaves the table.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.demo.processes import Ports
from mixer_py.errors import PolicyLoadError
from mixer_py.policy.documentation import DIFFERENT, REFUSED
from tests.parts.engines import ask_all, ask_both, evaluate, lines
from tests.parts.opa_server import Opa
from tests.parts.programs import Programs

pytestmark = pytest.mark.opa

ALIKE = r"""
lower("AÉ")
lower("BASİC")
lower("ΑΣ")
upper("é")
upper("ß")
upper("ᾳﬁ")
count("é")
split("a,b,,c", ",")
split("é", "")
trim("aba", "a")
trim_space("\u00a0\u2003a\u0085\u200b")
trim_left("aAb", "aA")
trim_prefix("aab", "a")
trim_suffix("baa", "a")
substring("abc", 1, 1)
substring("abc", 0, -1)
substring("abc", -1, 2)
substring("abc", 5, 2)
indexof("caf\u00e9x", "x")
indexof("abc", "")
indexof("😀x", "x")
indexof("", "x")
indexof_n("aXbX", "X")
strings.reverse("ab\u00e9")
strings.count("aaa", "aa")
strings.count("é😀", "")
strings.count("", "a")
strings.replace_n({"a": "b", "b": "c"}, "ab")
strings.replace_n({"ab": "1", "a": "2", "b": "3"}, "abab")
strings.replace_n({}, "ab")
strings.any_prefix_match("ab", ["a", "c"])
concat("/", ["a", ""])
concat(",", {"b", "a"})
startswith("a", "")
"é" == "e\u0301"
"a" < "b"
"a" in {"k": "a"}
sprintf("%s|%v|%d|%q|%x|%%", ["a", [1, "b"], 3, "c\"d", 255])
sprintf("%v", [{"a": 1, "b": [1, "x"]}])
sprintf("%s", ["%s"])
sprintf("%5d", [42])
sprintf("%-5d|%05d|%+d|% d|%d", [42, -42, 42, 42, -3])
sprintf("%10s|%-10s|%.1s|%010s", ["é", "a", "abc", "x"])
sprintf("%f|%.2f|%6.2f|%-8.1f|%e|%g|%v", [1.5, 2.345, 1.25, 1.25, 1.5, 1234567.5, 0.00001])
sprintf("%d|%s|%t|%i", ["x", 3, true, 1])
sprintf("%d %d", [1])
sprintf("%d", [1, 2, "x"])
sprintf("%x|%X|%#x|%o|%b|%c|%U|%q", ["é", 255, 255, 8, 5, 233, 233, "a\"b"])
sprintf("%d|%v|%+v|%#v", [[1, "a", null, true], {"a": {1, 2}}, 3, "x"])
sprintf("%T %T %T %d", [1, "a", 1.5, set()])
sprintf(concat("", ["%", "d"]), [3])
sprintf("%", [])
sprintf("%z%", [1])
base64.decode("YQ==")
base64.decode("YQ")
base64.decode("_-8=")
base64url.decode("YQ")
base64url.decode("YQ==")
base64url.decode("_-8")
hex.decode("6A")
hex.decode("6")
urlquery.decode("a+b%20c")
urlquery.decode_object("a=1&a=2&b")
json.unmarshal("{\"a\":1,\"a\":2}")
json.unmarshal("1 2")
json.unmarshal("01")
json.is_valid("{")
json.marshal({"b": 1, "a": [null]})
1 == 1.0
1 in {1.0}
10 / 4
-7 % 3
7.5 % 2
1 / 0
9223372036854775807 + 1
9007199254740993
round(2.5)
round(-2.5)
floor(-1.2)
to_number("0x10")
to_number("1")
to_number("NaN")
to_number(null)
net.cidr_contains("10.0.0.0/8", "10.1.2.3")
net.cidr_contains("10.0.0.0/8", "10.1.0.0/16")
net.cidr_contains("10.0.0.0/16", "10.0.0.0/8")
net.cidr_contains("10.0.0.0/8", "010.1.2.3")
net.cidr_contains("10.1.2.3/8", "10.9.9.9")
net.cidr_contains("0.0.0.0/0", "::1")
net.cidr_contains("127.0.0.0/8", "127.1")
net.cidr_contains("10.0.0.0/33", "10.1.2.3")
net.cidr_contains("10.0.0.0/8", "::ffff:10.1.2.3")
net.cidr_contains("10.0.0.0/8", "fe80::1%eth0")
net.cidr_contains("::/0", "10.1.2.3")
net.cidr_contains("::/0", "::/90")
net.cidr_contains("::/0", "::ffff:0.0.0.0/92")
net.cidr_contains("::ffff:10.0.0.0/104", "10.1.2.3")
net.cidr_contains("0.0.0.0/0", "::ffff:0:0/96")
net.cidr_contains("10.0.0.0", "10.0.0.0")
net.cidr_contains("10.0.0.0/08", "10.0.0.0")
net.cidr_contains("10.0.0.0/0008", "10.0.0.0")
net.cidr_contains("10.0.0.0/+8", "10.0.0.0")
net.cidr_is_valid("10.0.0.0/08")
net.cidr_is_valid("10.0.0.0")
net.cidr_is_valid("fe80::%a/8")
regex.match("^a$", "a\n")
regex.match("a.b", "a\nb")
regex.match("(?i)k", "\u212a")
regex.match("[[:alpha:]]", "é")
regex.match("(?=a)", "a")
regex.match("(", "a")
regex.match("\\d", "٣")
regex.match("\\w", "é")
regex.match("\\W", "é")
regex.match("^\\S$", "\u00a0")
regex.match("\\s", "\u00a0")
regex.match("\\bx", "éx")
regex.match("[a&&b]", "&")
regex.match("[a--b]", "-")
regex.match("[+--]", ",")
regex.match("[+--x]", "x")
regex.match("[--a]", "A")
regex.match("[~~]", "~")
regex.match("[\\w-.]", "-")
regex.match("[\\w-.]", ",")
regex.match("[\\d\\s]+x", "1 x")
regex.match("^[^\\W]$", "é")
regex.match("^[\\D]$", "٣")
regex.match("[[a]", "[")
regex.match("^[]a]$", "]")
regex.match("^[^]a]$", "b")
regex.match("\\Qa.b\\E", "a.b")
regex.match("\\Qa.b", "axb")
regex.match("a{,2}", "a{,2}")
regex.match("^a{2}b{1,}c{0,1}$", "aab")
regex.match(`^/users/\d+/[\w.-]+$`, "/users/12/a-b.c")
regex.match("^[[:alpha:]\\d]+$", "a1")
regex.match("\\pL", "é")
regex.match("^\\x41\\.$", "A.")
regex.replace("a1b22", "\\d+", "#")
regex.split("\\s+", "a \tb")
regex.find_n("[^\\d]", "1a2b", -1)
regex.find_all_string_submatch_n("(\\w)=(\\d)", "a=1,é=2", -1)
regex.replace("abc", "(b)", "$1x")
regex.replace("abc", "(?P<x>b)", "${x}y")
regex.find_n("a", "aaa", 2)
regex.split("[,/]", "a,b/c")
glob.match("*.github.com", [], "api.github.com")
glob.match("*.github.com", [], "a.b.github.com")
glob.match("*:*", [":"], "a:b")
glob.match("/a/*", ["/"], "/a/b/c")
glob.match("/a/*", ["/"], "/a/")
glob.match("/a/**", ["/"], "/a/b/c")
glob.match("/*/b", ["/"], "//b")
glob.match("{a,b*}", ["/"], "bcd")
glob.match("[!a]x", [], "bx")
glob.match("A", [], "a")
glob.match("/a/**/c", ["/"], "/a/c")
glob.match("a**", ["/"], "a/b")
glob.match("[^a]", [], "b")
glob.match("*", null, "a.b/c")
glob.match("a\n*", [], "a\nb")
glob.match("a*", ["ab"], "a")
glob.match("a*", [""], "a")
glob.match("{a,b", [], "a")
glob.match("a\\", [], "a")
glob.match("[!a]", ["/"], "/")
glob.match("[]-a]", [], "^")
glob.match("[!a]", [], "\ufffd")
glob.match("?", [], "😀")
time.parse_rfc3339_ns("2026-01-02T03:04:05.123456789+02:00")
time.parse_rfc3339_ns("2026-02-30T03:04:05Z")
time.parse_ns("2006-01-02", "2026-03-04")
time.parse_duration_ns("1.5h")
time.parse_duration_ns("-1h15m30.918273645s")
time.parse_duration_ns("1d2h")
time.parse_duration_ns("1.5w")
time.parse_duration_ns("-1y.5d")
time.parse_duration_ns("0.1d")
time.parse_duration_ns("5.d")
time.parse_duration_ns("0")
time.parse_duration_ns("0d")
time.parse_duration_ns("d")
time.parse_duration_ns("")
time.parse_duration_ns("1")
time.parse_duration_ns("1.2.3d")
time.parse_duration_ns("1dd")
time.parse_duration_ns("1D")
time.parse_duration_ns(" 1d")
time.parse_duration_ns("292y")
time.parse_duration_ns("293y")
time.parse_duration_ns("1\u00b5s")
time.parse_duration_ns("1\u03bcs")
time.parse_duration_ns("1d1\u03bcs")
time.parse_duration_ns("1d1\u00b5s")
time.parse_duration_ns("-9223372036854775808ns")
time.parse_duration_ns("9223372036854775808ns")
time.parse_duration_ns("0.99999999999999999999999h")
time.add_date(1706659200000000000, 0, 1, 0)
time.add_date(1709164800000000000, 1, 0, 0)
time.add_date(-1, 0, -1, -1)
time.add_date(1706659200000000000, 300, 0, 0)
time.add_date(1706659200000000000, 0, 0.5, 0)
time.add_date(1706659200000000000, 0, 1.0, 0)
time.date([1700000000000000000, "America/New_York"])
time.clock([1700000000000000000, "Europe/Berlin"])
time.weekday(1700000000000000000)
units.parse("1.5M")
units.parse_bytes("1.5MiB")
semver.compare("1.2.3-a", "1.2.3")
object.get({"a": {"b": 1}}, ["a", "b"], 0)
object.union({"a": {"b": 1}}, {"a": {"c": 2}})
object.subset([1, 2, 3], [2, 3])
json.patch({"a": 1}, [{"op": "add", "path": "/b", "value": 2}])
json.filter({"a": {"b": 1, "c": 2}}, ["a/b"])
array.slice([1, 2, 3], -1, 2)
sort([3, "a", null, true, [1], {"a": 1}])
sum([1, 2.5])
max([])
{1, 2} - {2}
numbers.range(3, 1)
graph.reachable({"a": ["b"]}, ["a", "z"])
yaml.unmarshal("a: yes")
strings.replace_n({"": "x"}, "ab")
strings.replace_n({"": "x", "a": "y"}, "aéb")
strings.split_n("a/b/c", "/", 2)
strings.split_n("a/b/c", "/", -2)
strings.split_n("abc", "", 2)
strings.split_n("abc", "x", 0)
array.flatten([1, [2, [3]], []])
crypto.md5("é")
crypto.sha1("")
crypto.sha256("a")
crypto.hmac.md5("a", "b")
crypto.hmac.sha1("a", "")
crypto.hmac.sha256("a", "é")
crypto.hmac.sha512("a", "b")
crypto.hmac.equal("a", "é")
crypto.hmac.equal("é", "é")
crypto.x509.parse_certificates("")
crypto.x509.parse_certificates("x")
crypto.x509.parse_and_verify_certificates("x")
crypto.x509.parse_and_verify_certificates_with_options("x", {"a": 1})
crypto.x509.parse_rsa_private_key("")
net.cidr_intersects("10.0.0.0/8", "10.1.0.0/16")
net.cidr_intersects("10.1.0.0/16", "10.0.0.0/8")
net.cidr_intersects("10.0.0.0/9", "10.128.0.0/9")
net.cidr_intersects("::/0", "10.0.0.0/8")
net.cidr_intersects("10.0.0.0", "10.0.0.0/8")
net.cidr_contains_matches(["10.0.0.0/8", ["11.0.0.0/8", 1]], {"a": "10.1.1.1", "b": ["11.0.0.0/9", 2]})
net.cidr_contains_matches("10.0.0.0/8", {"10.0.0.1", "11.0.0.1"})
net.cidr_contains_matches([[]], "10.0.0.1")
net.cidr_merge(["10.0.0.0/9", "10.128.0.0/9"])
net.cidr_merge(["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "2001:db8::/33", "2001:db8:8000::/33"])
net.cidr_merge({"192.168.1.5", "10.1.2.3", "172.16.0.1"})
net.cidr_merge(["::1"])
net.cidr_merge([])
net.cidr_merge(["0.0.0.0/0", "::/0"])
uri.parse("https://user:p@ex.com:8443/a%2Fb/c%20d?x=1&y#f%41")
uri.parse("HTTP://Example.COM")
uri.parse("//h/p")
uri.parse("///p")
uri.parse("/a:b")
uri.parse("a:b")
uri.parse("a/b:c")
uri.parse(":a")
uri.parse("1a:b")
uri.parse("mailto:a@b?c=d#e")
uri.parse("http://[::1]:80/")
uri.parse("http://[fe80::1%25eth0]/")
uri.parse("http://[1.2.3.4]/")
uri.parse("http://a:b:1/")
uri.parse("mongodb://a:1,b:2/x")
uri.parse("http://a:x/")
uri.parse("http://h/%zz")
uri.parse("http://h?")
uri.parse("*")
uri.parse("*#a")
uri.parse("")
uri.parse("http://ex%41mple/")
uri.parse("http://é/é")
uri.parse("http://a b/")
uri.parse("/a b")
uri.parse("/;/=@:!*'()")
uri.parse("//a@b@c/")
uri.parse("?x")
uri.parse("http:opaque")
uri.is_valid("")
uri.is_valid("http://h:1a")
yaml.unmarshal("a: 010")
yaml.unmarshal("a: &x {b: yes}\nc: {<<: *x, d: 0x1F}")
yaml.unmarshal("- y\n- 'true'\n- 1_000\n- ~\n- .5\n- 2026-01-01")
yaml.unmarshal("a: [")
yaml.is_valid("a: 1\n---\nb: 2")
numbers.range_step(5, -5, 3)
numbers.range_step(0, 3, 0)
semver.is_valid("1.2.3-rc.01")
semver.is_valid("v1.2.3+a")
json.is_valid("\"\\ud800\"")
json.is_valid("1e400")
json.is_valid("NaN")
{path | [path, value] := walk({"a": [{"b": "c"}]}); value == "c"}
{path: value | [path, value] := walk([1, [2]])}
io.jwt.decode("a.b.c")
io.jwt.decode("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.")
io.jwt.decode("eyJhbGciOiJub25lIn0.eyJhIjoxfQ")
io.jwt.decode("eyJhbGciOiJub25lIn0.eyJhIjoiXHVkODAwIn0.")
io.jwt.decode("eyJlbmMiOiJ4In0.e30.")
io.jwt.decode("W10.e30.")
io.jwt.decode_verify("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", {"secret": "s"})
io.jwt.decode_verify("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", {"secret": "s", "alg": "none"})
io.jwt.decode_verify("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", {"secret": ""})
io.jwt.decode_verify("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", {})
io.jwt.decode_verify("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", {"secret": "s", "x": 1})
io.jwt.verify_hs256("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "s")
io.jwt.verify_rs256("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "{\"keys\": []}")
io.jwt.verify_rs256("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "{}")
io.jwt.verify_rs256("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "x")
io.jwt.encode_sign({"alg": "HS256", "typ": "JWT"}, {"b": "<", "a": 1.5}, {"kty": "oct", "k": "AyM1"})
io.jwt.encode_sign({"alg": "none"}, {}, {"kty": "oct", "k": "AyM1"})
io.jwt.encode_sign_raw("{\"alg\":\"HS512\",\"typ\":\"x\"}", "no json", "{\"kty\":\"oct\",\"k\":\"AyM1\"}")
io.jwt.encode_sign_raw("{\"alg\":\"HS512\"}", "no json", "{\"kty\":\"oct\",\"k\":\"AyM1\"}")
yaml.unmarshal("a: 2026-01-01")
"""
"""Expressions with the same value, or without one, in both engines."""


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports)
    yield server
    server.close()


@pytest.mark.parametrize("expression", lines(ALIKE))
def test_alike(opa: Opa, expression: str) -> None:
    ours, theirs = ask_both(opa, expression)
    assert ours == theirs


@pytest.mark.parametrize("expression", [line for text in DIFFERENT.values() for line in lines(text)])
def test_known_difference(opa: Opa, expression: str) -> None:
    ours, theirs = ask_both(opa, expression)
    assert ours != theirs, "the engines agree now: take it out of DIFFERENT"


@pytest.mark.parametrize("expression", [line for text in REFUSED.values() for line in lines(text)])
def test_what_is_said_to_be_refused_is_refused_with_a_way_out(expression: str) -> None:
    with pytest.raises(PolicyLoadError) as caught:
        evaluate(f"package single\n\nvalue := {expression}\n")
    assert [(fault.file, fault.line) for fault in caught.value.faults] == [("single.rego", 3)]


@pytest.mark.parametrize("builtin", ["lower", "upper"])
def test_every_letter_changes_case_alike(opa: Opa, builtin: str) -> None:
    letters: list[object] = [
        c
        for c in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(c) in {"Lu", "Ll", "Lt", "Lo", "Mn", "Nl", "So"}
    ]
    assert ask_all(opa, f"one(c) := {builtin}(c)", letters) == []


def patterns() -> st.SearchStrategy[str]:
    piece = st.sampled_from(
        ["a", "b", "/", ".", "*", "**", "?", "[ab]", "[!a]", "[a-b]", "[!/]", "\\*", "\\a", ",", "é", "[a", "}", "-"]
    )
    return st.recursive(
        st.lists(piece, max_size=5).map("".join),
        lambda inner: st.lists(
            st.one_of(piece, st.lists(inner, max_size=3).map(lambda branches: "{" + ",".join(branches) + "}")),
            max_size=4,
        ).map("".join),
        max_leaves=6,
    )


GLOBS = st.tuples(
    patterns(),
    st.sampled_from([None, [], ["/"], [".", "/"], ["a"], ["é"]]),
    st.lists(st.text("ab/.é*,", max_size=7), min_size=12, max_size=12),
)


@settings(max_examples=40, deadline=None)
@given(globs=st.lists(GLOBS, min_size=15, max_size=15))
def test_globs_match_alike(opa: Opa, globs: list[tuple[str, list[str] | None, list[str]]]) -> None:
    documents: list[object] = [[glob, delimiters, text] for glob, delimiters, texts in globs for text in texts]
    assert ask_all(opa, "one(c) := glob.match(c[0], c[1], c[2])", documents) == []


@settings(max_examples=20, deadline=None)
@given(
    globs=st.lists(
        st.tuples(st.text("[]!-ab\\^{},*", max_size=8), st.text("[]!-ab^,", max_size=3)), min_size=150, max_size=150
    )
)
def test_what_is_hardly_a_glob_matches_alike(opa: Opa, globs: list[tuple[str, str]]) -> None:
    assert ask_all(opa, 'one(c) := glob.match(c[0], ["/"], c[1])', [list(glob) for glob in globs]) == []


def addresses() -> st.SearchStrategy[str]:
    number = st.sampled_from(["0", "1", "10", "127", "255", "256", "01"])
    four = st.lists(number, min_size=4, max_size=4).map(".".join) | st.ip_addresses(v=4).map(str)
    group = st.sampled_from(["0", "ffff", "FFFF", "fe80", "1", "", "00000", "ffff:a00:1"])
    six = st.lists(group, min_size=2, max_size=9).map(":".join) | st.ip_addresses(v=6).map(str)
    return st.one_of(four, six, four.map(lambda address: f"::ffff:{address}"), four.map(lambda address: f"::{address}"))


RANGES = st.tuples(
    addresses(),
    st.sampled_from(
        ["", "/", "/0", "/8", "/08", "/9", "/31", "/32", "/33", "/64", "/92", "/95", "/96", "/104", "/128", "/-1"]
    ),
).map("".join)


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(RANGES, RANGES | addresses()), min_size=150, max_size=150))
def test_ranges_of_addresses_are_alike(opa: Opa, pairs: list[tuple[str, str]]) -> None:
    documents: list[object] = [list(pair) for pair in pairs]
    assert (
        ask_all(
            opa,
            "one(c) := net.cidr_contains(c[0], c[1])",
            documents,
        )
        == []
    )


ZONES = st.sampled_from(["", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
MOMENTS = st.tuples(
    st.integers(0, 2_000_000_000), ZONES, st.integers(-30, 30), st.integers(-40, 40), st.integers(-400, 400)
)


@settings(max_examples=20, deadline=None)
@given(moments=st.lists(MOMENTS, min_size=100, max_size=100))
def test_dates_are_added_alike(opa: Opa, moments: list[tuple[int, str, int, int, int]]) -> None:
    documents: list[object] = [[[at * 10**9, zone], *rest] for at, zone, *rest in moments]
    assert ask_all(opa, "one(c) := time.add_date(c[0], c[1], c[2], c[3])", documents) == []
