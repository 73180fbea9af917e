"""Lists of those who may call, held against the names in a certificate."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixer_py.peers import AllowList, Names, parse_allow_list

GATEWAY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
BRANCH = "spiffe://cluster.local/ns/istio-system/*"


def allows(entries: list[str], names: Names) -> bool:
    return parse_allow_list(entries).allows(names)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("envoy.example", Names(dns=("envoy.example",))),
        ("Envoy.Example", Names(dns=("other.example", "ENVOY.example"))),
        ("*.example", Names(dns=("*.example",))),
        ("10.0.0.1", Names(addresses=("10.0.0.1",))),
        ("2001:db8:0::1", Names(addresses=("2001:db8::1",))),
        ("https://envoy.example/a", Names(uris=("https://envoy.example/b", "https://envoy.example/a"))),
        ("urn:uuid:1", Names(uris=("urn:uuid:1",))),
        (GATEWAY, Names(uris=(GATEWAY,))),
        (BRANCH, Names(uris=(GATEWAY,))),
        ("spiffe://cluster.local/*", Names(uris=(GATEWAY,))),
    ],
)
def test_a_name_on_the_list_may_call(entry, names):
    assert allows([entry], names)
    assert allows(["a.example", entry, "spiffe://other/*"], names)


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        pytest.param("envoy.example", Names(), id="no name"),
        pytest.param("envoy.example", Names(dns=("a.envoy.example", "envoy.example.org", "envoy")), id="other names"),
        pytest.param("a.example", Names(dns=("*.example",)), id="a certificate for a zone is not each name in it"),
        pytest.param("*.example", Names(dns=("a.example",)), id="an entry for a zone is no name in it"),
        pytest.param("10.0.0.1", Names(dns=("10.0.0.1",)), id="an address written as a DNS name"),
        pytest.param(GATEWAY, Names(dns=(GATEWAY,)), id="a SPIFFE id written as a DNS name"),
        pytest.param(BRANCH, Names(dns=(GATEWAY,)), id="the same below a branch"),
        pytest.param("envoy.example", Names(uris=("envoy.example",)), id="a DNS name written as a URI"),
        pytest.param(GATEWAY, Names(uris=(GATEWAY, "https://x/")), id="two URIs are no SPIFFE id"),
        pytest.param(BRANCH, Names(uris=(GATEWAY, GATEWAY + "2")), id="two SPIFFE ids are none"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local/ns/istio-system",)), id="the branch itself"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local/ns/istio-system/",)), id="an empty segment"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local/ns/istio-system-2/sa/x",)), id="a longer segment"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local/ns/istio-system/../a/sa/x",)), id="out by dots"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local/ns/istio-system/%2e%2e/x",)), id="an escape"),
        pytest.param(BRANCH, Names(uris=("spiffe://cluster.local.evil/ns/istio-system/sa/x",)), id="another domain"),
        pytest.param(BRANCH, Names(uris=("SPIFFE://cluster.local/ns/istio-system/sa/x",)), id="capitals"),
        pytest.param("https://a/b", Names(uris=("https://a/B", "https://a/b/", "HTTPS://a/b")), id="URIs by letter"),
    ],
)  # fmt: skip
def test_nobody_else_may(entry, names):
    assert not allows([entry], names)


def test_an_empty_list_allows_nobody():
    assert not AllowList().allows(Names(uris=(GATEWAY,), dns=("a",), addresses=("::1",)))


@pytest.mark.parametrize(
    "entry",
    ["", "*", "/*", "spiffe://*", "spiffe:///*", "spiffe://a/*/b", "spiffe://a/b*", "spiffe://a/b/*/*", "spiffe://a//b",
     "spiffe://A/b", "spiffe://a/b?c", "https://a/*", "a b", "-a", "a..b", "*.*.a", "a@b", "ä.example"],
)  # fmt: skip
def test_what_is_no_name_is_refused(entry):
    with pytest.raises(ValueError, match=r"name|SPIFFE"):
        parse_allow_list([entry])


segments = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,6}", fullmatch=True)
paths = st.lists(segments, min_size=1, max_size=5)


@given(branch=paths, path=paths, domain=st.sampled_from(["a", "a.b"]), other=st.sampled_from(["a", "a.b"]))
def test_a_branch_allows_those_whose_path_begins_with_its_segments_and_goes_on(branch, path, domain, other):
    name = "/".join(("spiffe:/", other, *path))
    wanted = domain == other and path[: len(branch)] == branch and len(path) > len(branch)
    assert allows(["/".join(("spiffe:/", domain, *branch, "*"))], Names(uris=(name,))) is wanted
    assert allows(["/".join(("spiffe:/", domain, *branch, "*"))], Names(uris=(f"{name}/{'/'.join(branch)}",))) is (
        domain == other and (path + branch)[: len(branch)] == branch
    )


@given(st.text(max_size=40), st.text(max_size=40))
def test_one_exact_name_never_stands_for_another(entry, name):
    assume("*" not in entry)
    try:
        allowed = parse_allow_list([entry])
    except ValueError:
        return
    assume(name.lower() != entry.lower())
    assert not allowed.allows(Names(uris=(name,)))
    assert not allowed.allows(Names(dns=(name,)))
