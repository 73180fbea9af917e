from __future__ import annotations

import base64
import copy
import gc
import json
import weakref
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixer_py.errors import RequestParseError
from mixer_py.instruments import Registry
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.log_rules import result_of
from mixer_py.telemetry.decision_log import to_batch
from mixer_py.telemetry.decision_log_input import InputKeeper, InputSources
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings, MaskSettings
from mixer_py.telemetry.decision_record import DecisionRecord
from mixer_py.telemetry.json_places import replaced, segments_of, thawed
from mixer_py.telemetry.masking import Mask
from mixer_py.telemetry.secret_names import SecretNames

SECRET_NAMES = (
    "token", "access_token", "accessToken", "ACCESS-TOKEN", "id_token", "refresh_token", "code", "key", "api_key",
    "apikey", "x-api-key", "secret", "client_secret", "password", "user[password]", "sig", "signature", "session",
    "jsessionid", "PHPSESSID", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "SAMLResponse", "jwt",
    "%74oken", "to%6Ben", "otp",
)  # fmt: skip
PLAIN_NAMES = (
    "page", "q", "sort", "country_code", "status_code", "max_tokens", "monkey", "keyboard", "author", "passage",
    "sessions", "assert", "signed", "compass", "tokenizer", "next",
)  # fmt: skip


def names(**keys: Any) -> SecretNames:
    return SecretNames(keys.get("headers", ()), keys.get("query", ()), defaults=keys.get("defaults", True))


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert names().is_parameter(name)
    shown = name.partition("%")[0] + "***" if "%" in name else f"{name}=***"
    assert Mask(MaskSettings()).text(f"/a?x=1&{name}=hidden&y=2") == f"/a?x=1&{shown}&y=2"


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_names_of_other_things(name: str) -> None:
    assert not names().is_parameter(name)
    assert not names().is_member(name)
    assert Mask(MaskSettings()).text(f"/a?{name}=shown") == f"/a?{name}=shown"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("/a", "/a"),
        ("token=s", "token=***"),
        ("/a?token=s;x=1?y&z=2", "/a?token=***&z=2"),
        ("/a?x=1;token=s", "/a?x=1;token=***"),
        ("/a;token=s/b/c", "/a;token=***"),
        ("/login/token=s", "/login/token=***"),
        ("/a#access_token=s&state=1", "/a#access_token=***&state=1"),
        ("/a?next=https%3A%2F%2Fb%2F%3Ftoken%3Ds", "/a?next=https***"),
        ("/a?next=https%253A%252F%252Fb%252F%253Ftoken%253Ds&x=1", "/a?next=https***&x=1"),
        ("/a%3Fcode=s", "/a***"),
        ("/a?token=abc%3D", "/a?token=***"),
        ("a=1; token=s; b=2", "a=1; token=***"),
        ("/a?token", "/a?token"),
        ("/a?q=%zz", "/a?q=%zz"),
    ],
)
def test_text(text: str, masked: str) -> None:
    assert Mask(MaskSettings()).text(text) == masked


def test_what_a_person_adds_is_masked_wherever_it_stands_again() -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.path = "/patients/4711?tenant=acme&x=1"
    http.headers.update({":path": http.path, "x-tenant": "acme", "X-Upper": "acme"})
    keys = MaskSettings(
        headers=("x-upper",), paths=("/input/attributes/request/http/headers/x-tenant", "/input/parsed_query/tenant")
    )
    document, masked = Mask(keys).apply(InputBuilder().document(request))
    assert b"acme" not in orjson.dumps(document)
    assert document["parsed_query"]["x"] == ["1"]
    assert "/input/parsed_query/tenant" in masked
    document, masked = Mask(MaskSettings(paths=("/input/parsed_path/1",))).apply(InputBuilder().document(request))
    assert b"4711" not in orjson.dumps(document)
    assert document["parsed_path"] == "***"


def test_a_path_into_a_body_masks_the_body_as_text_too() -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.headers["content-type"] = "application/json"
    http.body = '{"cards": [{"number": 12345678901234567890123, "name": "a"}, {"number": 2}], "n": 1.10}'
    mask = Mask(MaskSettings(paths=("/input/parsed_body/cards/*/number", "/input/parsed_body/none")))
    document, masked = mask.apply(InputBuilder().document(request))
    text = orjson.dumps(document["parsed_body"])
    assert text == b'{"cards":[{"number":"***","name":"a"},{"number":"***"}],"n":1.10}'
    assert document["attributes"]["request"]["http"]["body"] == "***"
    assert masked == [
        "/input/attributes/request/http/body", "/input/parsed_body/cards/0/number", "/input/parsed_body/cards/1/number",
    ]  # fmt: skip


def test_the_defaults_can_be_switched_off() -> None:
    request = CheckRequest()
    request.attributes.request.http.headers.update({"authorization": "seen", "x-mine": "unseen"})
    document, _ = Mask(MaskSettings(defaults=False, headers=("X-Mine",))).apply(InputBuilder().document(request))
    assert document["attributes"]["request"]["http"]["headers"] == {"authorization": "seen", "x-mine": "***"}


def test_a_name_that_comes_twice_hides_nothing() -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.headers["content-type"] = "application/json"
    http.body = '{"a": "/x?token=hidden", "a": "b"}'
    document, _ = Mask(MaskSettings()).apply(InputBuilder().document(request))
    assert b"hidden" not in orjson.dumps(document)


def test_a_path_to_be_masked_is_one_of_the_input() -> None:
    with pytest.raises(ValueError, match="is no path of the input"):
        MaskSettings(paths=("parsed_body/password",))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES, st.lists(st.sampled_from(["a", "0", "1", "*"]), max_size=3).map(tuple))
def test_replacing_changes_nothing_in_place(value: Any, segments: tuple[str, ...]) -> None:
    before, found = copy.deepcopy(value), []
    new = replaced(value, segments, "***", "", found)
    assert value == before
    assert found or new == before


@settings(deadline=None)
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_digits(number: float) -> None:
    text = json.dumps({"a": [number]}, separators=(",", ":")).encode()
    assert orjson.dumps(thawed(orjson.Fragment(text))) == text


def test_segments() -> None:
    assert segments_of("/input/a/0/b") == ("a", "0", "b")
    assert replaced({"a/b": 1, "c d": 2}, ("a~1b",), 0, "", []) == {"a/b": 0, "c d": 2}
    assert replaced({"a/b": 1, "c d": 2}, ("c%20d",), 0, "", []) == {"a/b": 1, "c d": 0}


SECRET = "q9Zx7Ww3Kk"
HOLDERS = (
    "headers", "header_map", "both paths", "referer", "query", "form", "odd form", "json", "raw json", "multipart",
    "context",
)  # fmt: skip
LETTERS = st.text("abc ", max_size=6)
SECRET_NAME = st.sampled_from(SECRET_NAMES)
WRAPPED = st.builds("{}{}{}".format, st.sampled_from(["", "a/", "x?", "a%3D", "ä"]), st.just(SECRET), LETTERS)


def in_address(draw: st.DrawFn, name: str, value: str) -> str:
    """An address with a secret in its query, its path's parameters, its fragment, or within another address."""
    form = draw(st.sampled_from(["/p?{}", "/p?x=1&{}&y=2", "/p;{}", "/p#{}", "/p?x=1;{}", "/{}/b", "/p?a=b?{}"]))
    if "?" not in form or draw(st.booleans()):  # before the query a bare ? ends what it stands in
        value = quote(value, safe=draw(st.sampled_from(["", "/="])))
    pair = f"{name}={value}".replace("&", "%26").replace(" ", "+")
    for _ in range(draw(st.integers(0, 2))):
        pair = f"next={quote('https://b/c?x=1&' + pair, safe='')}"
    return form.format(pair)


def fill(draw: st.DrawFn, request: CheckRequest) -> None:
    """Puts secrets wherever the default rules know them."""
    http = request.attributes.request.http
    name, value = draw(SECRET_NAME), draw(WRAPPED)
    address = in_address(draw, name, value)
    header = draw(st.sampled_from(["authorization", "Cookie", "x-api-key", "set-cookie", "proxy-authorization",
                                   "x-vault-token", "x-amz-security-token"]))  # fmt: skip
    holder = draw(st.sampled_from(HOLDERS))
    http.path = "/plain"
    match holder:
        case "headers":
            http.headers[header] = value
        case "header_map":
            entries = http.header_map.headers
            entries.append(HeaderValue(key=header, raw_value=value.encode()))
            entries.append(HeaderValue(key=":path", raw_value=address.encode()))
            entries.append(HeaderValue(key="x-b", value=address))
        case "both paths":
            http.path = address
            http.headers[":path"] = address
        case "referer":
            http.headers["referer"] = f"https://a.example{address}"
        case "query":
            http.query = f"{name}={value.replace('&', '')}"
        case "form" | "odd form":
            http.headers["content-type"] = "application/x-www-form-urlencoded"
            text = f"a=1&{name}={quote(value, safe='')}" + (";" if holder == "odd form" else "")
            http.raw_body = text.encode()
            http.body = text if draw(st.booleans()) else ""
        case "json" | "raw json":
            http.headers["content-type"] = "application/json" if holder == "json" else "application/octet-stream"
            body = json.dumps(
                {"a": [{"password": value, "ref": address}], "n": 10**30}, ensure_ascii=draw(st.booleans())
            )
            http.raw_body = body.encode() if draw(st.booleans()) else b""
            http.body = "" if http.raw_body else body
        case "multipart":
            http.headers["content-type"] = "multipart/form-data; boundary=XX"
            http.body = f'--XX\r\ncontent-disposition: form-data; name="client_secret"\r\n\r\n{value}\r\n--XX--\r\n'
        case "context":
            request.attributes.context_extensions["upstream_password"] = value
            request.attributes.metadata_context.filter_metadata["a"].update({"b": {"url": address, "apiKey": value}})


@st.composite
def requests(draw: st.DrawFn) -> CheckRequest:
    request = CheckRequest()
    fill(draw, request)
    return request


@settings(max_examples=400, deadline=None)
@given(requests())
async def test_a_secret_never_shows_in_any_column(request_: CheckRequest) -> None:
    """Whatever stands where the default rules look, in whatever form."""
    log = DecisionLogSettings()
    builder = InputBuilder()
    keeper = InputKeeper(log, InputSources(builder.document, builder.attributes, result_of), Registry())
    before = request_.SerializeToString(deterministic=True)
    reason = f"no access to {request_.attributes.request.http.path}"
    record = DecisionRecord(request_, 0, 0.0, "deny", "d", "p", "r", reason, reason, "", 0, "t", "bypass", False)
    kept = await keeper.keep(record)
    assert kept is not None
    row = to_batch([(record, kept)]).to_pylist()[0]
    shown = orjson.dumps(row, default=str).decode()
    assert SECRET not in shown
    encoded = [base64.b64encode(b"x" * shift + SECRET.encode())[4:-4].decode() for shift in range(3)]
    assert not any(piece in shown for piece in encoded), "base64 of it shows"
    assert row["input"], "it was left out"
    assert row["masked"]
    assert request_.SerializeToString(deterministic=True) == before


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(PLAIN_NAMES), st.text("abc/+", max_size=5), max_size=4))
def test_what_is_no_secret_is_kept_as_it_is(query: dict[str, str]) -> None:
    request = CheckRequest()
    http = request.attributes.request.http
    http.path = "/a/b?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())
    http.headers.update({":path": http.path, "accept": "text/html;q=0.9", "content-type": "application/json",
                         "x-forwarded-client-cert": 'By=spiffe://a;Hash=b;Subject="CN=c";URI=spiffe://d'})  # fmt: skip
    http.body = json.dumps({"query": query, "big": 10**40})
    builder = InputBuilder()
    try:
        document = builder.document(request)
    except RequestParseError:
        assume(False)
    shown, masked = Mask(MaskSettings()).apply(document)
    assert masked == []
    assert json.loads(orjson.dumps(shown)) == json.loads(orjson.dumps(document))


def test_a_mask_is_freed_without_the_collector() -> None:
    """A worker lets the collector pass over what lives for long, so what stands in a circle would stay for ever."""
    mask = Mask(MaskSettings())
    assert mask.text("/a?token=s") == "/a?token=***"
    kept = weakref.ref(mask.names)
    gc.disable()
    try:
        del mask
        assert kept() is None
    finally:
        gc.enable()


ODD = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=2) | st.just({"a": {}})


@pytest.mark.parametrize(
    "place",
    ["", "attributes", "attributes/request", "attributes/request/http", "attributes/request/http/headers",
     "attributes/request/http/headerMap", "attributes/request/http/headerMap/headers", "parsed_path", "parsed_query",
     "attributes/request/http/headerMap/headers/0", "attributes/request/http/body", "attributes/request/http/rawBody",
     "attributes/request/http/path"],
)  # fmt: skip
@settings(deadline=None)
@given(odd=ODD)
def test_whatever_a_policy_put_somewhere_is_masked_without_a_fault(place: str, odd: Any) -> None:
    http = {
        "headers": {"a": "b"},
        "headerMap": {"headers": [{"key": "a", "rawValue": "YQ=="}]},
        "body": "",
        "path": "/",
    }
    document = {"attributes": {"request": {"http": http}}, "parsed_path": ["a"], "parsed_query": {"a": ["b"]}}
    changed = replaced(document, tuple(place.split("/")), odd, "/input", []) | {"other": "x?token=hidden"}
    shown, _ = Mask(MaskSettings(paths=("/input/parsed_path/0",))).apply(changed)
    assert shown["other"] == "x?token=***"
