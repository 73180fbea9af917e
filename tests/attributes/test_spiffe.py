"""SPIFFE ids: parsed as the standard says, and never half."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.attributes import spiffe

segments = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True).filter(lambda segment: segment not in {".", ".."})
domains = st.from_regex(r"[a-z0-9._-]{1,20}", fullmatch=True)


@given(domains, st.lists(segments, max_size=6))
def test_what_is_written_is_read_back(domain, path):
    written = spiffe.SpiffeId(domain, tuple(path))
    assert spiffe.parse(str(written)) == written


@given(domains, segments, segments)
def test_istio_names_give_namespace_and_service_account(domain, namespace, account):
    name = spiffe.parse(f"spiffe://{domain}/ns/{namespace}/sa/{account}")
    assert name is not None
    assert (name.trust_domain, name.namespace, name.service_account) == (domain, namespace, account)


@given(st.text())
def test_any_text_is_read_whole_or_not_at_all(text):
    name = spiffe.parse(text)
    assert name is None or str(name) == text


def test_a_namespace_called_sa_is_no_service_account():
    name = spiffe.parse("spiffe://cluster.local/ns/sa/sa/ns")
    assert name is not None
    assert (name.namespace, name.service_account) == ("sa", "ns")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cluster.local/ns/a/sa/b",
        "https://cluster.local/ns/a",
        "spiffe://",
        "spiffe:///ns/a",
        "spiffe://UPPER/ns/a",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/a/",
        "spiffe://td/../ns/a",
        "spiffe://td/ns/a%2Fb",
        "spiffe://user@td/ns/a",
        "spiffe://td:80/ns/a",
        "spiffe://td/ns/a\n",
        "spiffe://td/" + "a" * 2048,
    ],
)
def test_what_the_standard_forbids_is_no_id(text):
    assert spiffe.parse(text) is None
