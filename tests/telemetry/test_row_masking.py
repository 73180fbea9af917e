"""Secrets in rows: what is masked unasked, what a setting adds, and that nothing else is touched."""

import pyarrow as pa
import pytest
from envoy.service.accesslog.v3 import als_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mixer_py.settings import Secret
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder
from mixer_py.telemetry.columns import REQUESTS
from mixer_py.telemetry.privacy_settings import HeaderSettings, Privacy, RowMaskSettings
from mixer_py.telemetry.row_masking import RowMask

KEY = Secret(value="a key of sixteen letters")
COLUMN = {column.name: column for column in REQUESTS.columns}
SHOWN = HeaderSettings(request=("X-Tenant", "cookie", "referer"), response=("set-cookie", "x-build"), trailers=("*",))


def decoded(privacy: Privacy) -> list[dict]:
    message = als_pb2.StreamAccessLogsMessage()
    entry = message.http_logs.log_entry.add()
    request, response = entry.request, entry.response
    request.path = "/pay/token=s3cret?page=2&access_token=s3cret&q=a%20b&q=c"
    request.user_agent = "agent; api_key=s3cret"
    request.referer = "https://shop.test/?page=1&api_key=s3cret"
    request.request_headers.update({"x-tenant": "acme", "cookie": "id=s3cret", "x-other": "kept by nobody"})
    response.response_headers.update({"set-cookie": "id=s3cret", "x-build": "7"})
    response.response_trailers.update({"grpc-message": "bad password=s3cret"})
    entry.common_properties.custom_tags.update({"tenant": "acme", "session-token": "s3cret", "link": "/?sig=s3cret"})
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].update(
        {"mixer_reasons": "no such token=s3cret; late"}
    )
    entry.common_properties.downstream_remote_address.socket_address.address = "10.1.2.3"
    requests = AccessLogDecoder(privacy=privacy).decode([(message.SerializeToString(), ANONYMOUS)]).requests
    rows = requests.drop_columns(["timestamp", "response_time"]).to_pylist()
    return [row | {name: dict(row[name]) for name in COLUMN if COLUMN[name].kind.is_map} for row in rows]


def test_without_settings_no_header_and_no_query_is_shown():
    (row,) = decoded(Privacy())
    assert (row["request_headers"], row["response_headers"], row["response_trailers"]) == ({}, {}, {})
    assert (row["request_query_params"], row["request_referer"]) == ({}, "")
    assert row["request_url_path"] == "/pay/token=***"
    assert row["custom_tags"] == {"tenant": "acme", "session-token": "***", "link": "/?sig=***"}
    assert row["reasons"] == "no such token=***"  # up to the next &: rather more than less
    assert "s3cret" not in str(row)


def test_what_settings_name_is_shown_and_its_secrets_are_not():
    (row,) = decoded(Privacy(SHOWN, ("page", "access_token", "q")))
    assert row["request_headers"] == {"x-tenant": "acme", "cookie": "***"}
    assert row["response_headers"] == {"set-cookie": "***", "x-build": "7"}
    assert row["response_trailers"] == {"grpc-message": "bad password=***"}
    assert row["response_grpc_message"] == "bad password=***"
    assert row["request_query_params"] == {"page": "2", "access_token": "***", "q": "a b"}
    assert row["request_referer"] == "https://shop.test/?page=1&api_key=***"
    assert row["request_useragent"] == "agent; api_key=***"
    assert "s3cret" not in str(row)


def test_a_star_is_every_parameter():
    (row,) = decoded(Privacy(query=("*",)))
    assert row["request_query_params"] == {"page": "2", "access_token": "***", "q": "a b"}


def test_further_names_are_masked_and_the_defaults_can_be_switched_off():
    mask = RowMaskSettings(defaults=False, headers=("X-TENANT",), query=("Page",))
    (row,) = decoded(Privacy(SHOWN, ("*",), mask))
    assert row["request_headers"] == {"x-tenant": "***", "cookie": "id=s3cret"}
    assert row["request_query_params"] == {"page": "***", "access_token": "s3cret", "q": "a b"}
    assert row["request_referer"] == "https://shop.test/?page=***&api_key=s3cret"


def test_columns_and_members_are_replaced_removed_or_hashed():
    columns = {
        "source_ip": "hash", "origin_ip": "replace", "request_useragent": "remove", "source_port": "remove",
        "custom_tags/tenant": "hash", "custom_tags/link": "remove", "request_headers/x-tenant": "replace",
    }  # fmt: skip
    (row,) = decoded(Privacy(SHOWN, (), RowMaskSettings(columns=columns, hash_key=KEY)))
    assert (row["origin_ip"], row["request_useragent"], row["source_port"]) == ("***", "", 0)
    assert row["custom_tags"] == {"tenant": row["custom_tags"]["tenant"], "session-token": "***"}
    assert row["request_headers"] == {"x-tenant": "***", "cookie": "***"}
    assert len(row["source_ip"]) == 32
    assert row["source_ip"] != "10.1.2.3"


def test_a_whole_map_is_masked_by_its_column():
    for operation, wanted in (("remove", {}), ("replace", {"x-tenant": "***", "cookie": "***"})):
        (row,) = decoded(Privacy(SHOWN, (), RowMaskSettings(columns={"request_headers": operation})))
        assert row["request_headers"] == wanted


def test_equal_values_have_equal_hashes_under_one_key_only():
    def hashes(key: str) -> list[str]:
        mask = RowMask(RowMaskSettings(columns={"source_ip": "hash"}, hash_key=Secret(value=key)))
        step = mask.step(COLUMN["source_ip"])
        assert step is not None
        return step(pa.array(["10.1.2.3", "", "10.1.2.4", "10.1.2.3"])).to_pylist()

    one, other = hashes("one"), hashes("other")
    assert one[0] == one[3] != one[2]
    assert one[1] == ""
    assert not {*one} & {*other} - {""}


texts = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.lists(st.dictionaries(st.sampled_from(["cookie", "x-tenant", "tag", "é"]), texts), max_size=6))
def test_masking_maps_touches_nothing_but_the_values_of_secrets(maps):
    step = RowMask(RowMaskSettings(columns={"custom_tags/tag": "remove"})).step(COLUMN["custom_tags"])
    assert step is not None
    found = step(pa.array([list(one.items()) for one in maps], COLUMN["custom_tags"].kind.arrow))
    plain = RowMask().step(COLUMN["request_useragent"])
    assert plain is not None

    def wanted(name: str, text: str) -> str:
        return "***" if name == "cookie" and text else plain(pa.array([text])).to_pylist()[0]

    assert [dict(one) for one in found.to_pylist()] == [
        {name: wanted(name, text) for name, text in one.items() if name != "tag"} for one in maps
    ]


def test_a_column_where_nobody_from_outside_writes_costs_nothing():
    assert RowMask().step(COLUMN["response_code"]) is None
    assert RowMask().step(COLUMN["source_ip"]) is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"source_ipp": "remove"}, "did you mean source_ip?"),
        ({"quite_another": "remove"}, "docs/columns.md has them"),
        ({"source_ip": "hash"}, "write hash_key: {file: path} beside columns"),
        ({"response_code": "replace"}, "can only be masked by remove"),
        ({"source_ip/x": "remove"}, "write source_ip"),
        ({"custom_tags/": "remove"}, "write custom_tags"),
        ({"timestamp": "remove"}, "rows are kept in its order"),
    ],
)
def test_a_rule_that_cannot_be_is_told_at_load(columns, said):
    with pytest.raises(ValidationError, match=said):
        RowMaskSettings(columns=columns)
