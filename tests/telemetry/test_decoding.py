"""Columns hold what a decoder that goes entry by entry finds, and garbage costs only itself."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest
from envoy.service.accesslog.v3 import als_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_decoder import ends, entries, row

from mixer_py.instruments import FakeClock, Registry
from mixer_py.telemetry import validation
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder, StreamIdentity
from mixer_py.telemetry.columns import REQUESTS
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.privacy_settings import HeaderSettings, Privacy, RowMaskSettings

CLOCK = FakeClock()
BARE = RowMaskSettings(defaults=False)
DECODER = AccessLogDecoder(CLOCK, Privacy(mask=BARE))
EVERYTHING = HeaderSettings(request=("*",), response=("*",), trailers=("*",))
ALL_SHOWN = AccessLogDecoder(CLOCK, Privacy(EVERYTHING, ("*",), BARE, ("*",)))
HIDDEN = {"source_principal": "replace", "destination_service_host": "remove", "destination_app": "replace"}
MASKED = AccessLogDecoder(CLOCK, Privacy(mask=RowMaskSettings(columns=HIDDEN)))
MAPS = [column.name for column in REQUESTS.columns if column.kind.is_map]

LABELLED = {
    "WORKLOAD_NAME": "gateway-v1", "NAMESPACE": "istio-system", "CLUSTER_ID": "Kubernetes", "LABELS.app": "gateway",
    "LABELS.version": "v1", "LABELS.service.istio.io/canonical-name": "gateway",
    "LABELS.service.istio.io/canonical-revision": "r1", "LABELS.team": "edge", "APP_CONTAINERS": "gateway,side",
    "SERVICE_ACCOUNT": "gateway-sa", "ISTIO_VERSION": "1.30.0", "NAME": "gateway-v1-abc",
}  # fmt: skip
IDENTITIES = [
    ANONYMOUS,
    StreamIdentity("mixer", "envoy-1", "shop"),
    StreamIdentity("inbound", "envoy-2", "shop", LABELLED),
    StreamIdentity("mixer-outbound", "envoy-3", "", {"NAMESPACE": "a"}),
]
streams = st.lists(st.tuples(st.lists(entries(), max_size=4), st.sampled_from(IDENTITIES)), max_size=4)


def message(*log_entries, tcp=0) -> bytes:
    logs = als_pb2.StreamAccessLogsMessage()
    logs.http_logs.log_entry.extend(log_entries)
    data: bytes = logs.SerializeToString()
    if tcp:
        logs = als_pb2.StreamAccessLogsMessage()
        for _ in range(tcp):
            logs.tcp_logs.log_entry.add().connection_properties.received_bytes = 1
        data += logs.SerializeToString()
    return data


def entry(**fields):
    made = als_pb2.StreamAccessLogsMessage.HTTPAccessLogEntries().log_entry.add()
    for path, value in fields.items():
        target, *names = made, *path.split("__")
        for name in names[:-1]:
            target = getattr(target, name)
        setattr(target, names[-1], value)
    return made


def rows_of(decoded):
    kinds = [field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field for field in REQUESTS.schema]
    rows = decoded.requests.cast(pa.schema(kinds)).to_pylist()
    return [row | {name: dict(row[name]) for name in MAPS} for row in rows]


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@given(streams, st.booleans())
@settings(deadline=None)
def test_columns_agree_with_the_decoder_that_goes_entry_by_entry(batch, everything):
    decoder = ALL_SHOWN if everything else DECODER
    decoded = decoder.decode([(message(*logs), identity) for logs, identity in batch])
    wanted = [
        row(log, identity, CLOCK.wall_ns(), everything=everything)
        for logs, identity in batch
        for log in logs
        if ends(log)
    ]
    assert rows_of(decoded) == [{name: one[name] for name in REQUESTS.names} for one in wanted]
    assert decoded.malformed == 0
    assert decoded.received == sum(len(logs) for logs, _ in batch)
    validation.check("requests", decoded.requests)


BAD_ENTRIES = [
    b"\x0a\x05\x01",  # longer than its message
    b"\x07",  # wire type 7
    b"\x00\x00",  # field number 0
    b"\x1a\x03\x2a\x01\xff",  # request.path is no UTF-8
    b"\x0c",  # an end-group that was not begun
    b"\xff" * 11,  # an endless varint
    b"\x0a\x07\x8a\x01\x04\x0a\x02\x0a\x09",  # truncated metadata
]


@pytest.mark.parametrize("bad", BAD_ENTRIES)
def test_a_malformed_entry_costs_itself_alone(bad):
    good = [entry(request__request_id=str(number)) for number in range(6)]
    logs = [field(1, log.SerializeToString()) for log in good]
    logs.insert(3, field(1, bad))
    decoded = DECODER.decode([(message(*good[:2]), ANONYMOUS), (field(2, b"".join(logs)), IDENTITIES[1])])
    assert decoded.requests.column("request_id").to_pylist() == ["0", "1", "0", "1", "2", "3", "4", "5"]
    assert decoded.requests.column("source_workload_name").to_pylist() == ["", "", *["shop"] * 6]
    assert decoded.malformed == 1


@given(streams, st.booleans())
@settings(deadline=None)
def test_what_is_known_to_be_alike_changes_no_count(batch, masked):
    decoder = MASKED if masked else DECODER
    decoded = decoder.decode([(message(*logs), identity) for logs, identity in batch])
    counted = []
    for alike in (decoded.alike, None):
        registry = Registry()
        IstioMetrics(registry).count_requests(decoded.requests, alike)
        counted.append({(series.name, series.labels): values for series, values in registry.read()})
    assert counted[0] == counted[1]


@given(streams, st.data())
@settings(deadline=None)
def test_garbage_anywhere_costs_only_itself(batch, data):
    messages = [(message(*logs), identity) for logs, identity in batch]
    for _ in range(data.draw(st.integers(1, 3))):
        garbage = data.draw(st.one_of(st.binary(max_size=40), st.sampled_from(BAD_ENTRIES)))
        messages.insert(data.draw(st.integers(0, len(messages))), (garbage, ANONYMOUS))
    decoded = DECODER.decode(messages)
    validation.check("requests", decoded.requests)
    wanted = [row(log, identity, CLOCK.wall_ns()) for logs, identity in batch for log in logs if ends(log)]
    # Garbage may happen to be an entry; what was sent is there all the same, and in its order.
    found = iter(rows_of(decoded))
    assert all(any(candidate == one for candidate in found) for one in wanted)


@given(st.lists(entries(), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_flipped_bytes_never_crash_and_never_lose_another_message(logs, chance: random.Random):
    whole, broken = message(entry(request__request_id="whole")), bytearray(message(*logs))
    for _ in range(chance.randint(1, 4)):
        if broken:
            broken[chance.randrange(len(broken))] = chance.randrange(256)
    decoded = DECODER.decode([(whole, ANONYMOUS), (bytes(broken), ANONYMOUS), (whole, ANONYMOUS)])
    found = decoded.requests.column("request_id").to_pylist()
    assert (found[0], found[-1]) == ("whole", "whole")
    validation.check("requests", decoded.requests)


def test_a_message_that_is_only_garbage_counts_as_one():
    decoded = DECODER.decode([(b"\xff\xff", ANONYMOUS)])
    assert (decoded.requests.num_rows, decoded.malformed, decoded.received) == (0, 1, 1)


def test_a_message_cut_short_gives_the_entries_before_the_cut():
    data = message(*(entry(request__request_id=str(number)) for number in range(5)))
    decoded = DECODER.decode([(data[:-2], ANONYMOUS)])
    assert decoded.requests.column("request_id").to_pylist() == ["0", "1", "2", "3"]
    assert decoded.malformed == 1


def test_response_flags_that_are_no_message_cost_their_entry_alone():
    common = field(1, b"\x82\x01" + bytes([1]) + b"\xff")  # AccessLogCommon.response_flags
    good = message(entry(request__request_id="good"))
    decoded = DECODER.decode([(field(2, field(1, common)), ANONYMOUS), (good, ANONYMOUS)])
    assert decoded.requests.column("request_id").to_pylist() == ["good"]
    assert (decoded.malformed_requests, decoded.received) == (1, 2)


def test_logs_that_come_twice_in_a_message_are_read_both_times():
    tcp = als_pb2.StreamAccessLogsMessage()
    tcp.tcp_logs.log_entry.add().connection_properties.received_bytes = 7
    both = message(entry()) + tcp.SerializeToString()
    decoded = DECODER.decode([(both + both, ANONYMOUS)])
    assert (decoded.requests.num_rows, decoded.connections.num_rows, decoded.malformed) == (2, 2, 0)


def test_what_makes_the_decoder_panic_costs_itself_alone(monkeypatch):
    class PanicException(BaseException):
        """As PyO3's, which cannot be imported."""

    real = DECODER._projection._handler
    bad = message(entry(request__request_id="bad"))

    class Panics:
        @staticmethod
        def list_to_record_batch(messages):
            if any(b"bad" in one for one in messages):
                raise PanicException
            return real.list_to_record_batch(messages)

    monkeypatch.setattr(DECODER._projection, "_handler", Panics())
    good = message(entry(request__request_id="good"))
    decoded = DECODER.decode([(good, ANONYMOUS), (bad, ANONYMOUS), (good, ANONYMOUS)])
    assert decoded.requests.column("request_id").to_pylist() == ["good", "good"]
    assert decoded.malformed == 1


def test_what_is_read_in_several_steps_is_in_order_and_a_bad_entry_of_one_costs_itself_alone():
    bad = field(2, field(1, b"\xff\xff"))
    sent = []
    for index in range(5):
        sent.append((message(entry(request__path=f"/{index}" + "x" * 700_000), tcp=index), IDENTITIES[index % 3 + 1]))
        sent.append((bad if index % 2 else b"", ANONYMOUS))
    decoded = DECODER.decode(sent)
    assert [path[:2] for path in decoded.requests.column("request_url_path").to_pylist()] == [f"/{i}" for i in range(5)]
    who = decoded.requests.column("context_reporter_uid").to_pylist()
    assert who == [IDENTITIES[index % 3 + 1].node_id for index in range(5)]
    assert decoded.connections.column("context_reporter_uid").to_pylist() == [
        IDENTITIES[index % 3 + 1].node_id for index in range(5) for _ in range(index)
    ]
    assert (decoded.malformed_requests, decoded.malformed_connections) == (2, 0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_nobody_swallows_an_interrupt(monkeypatch, stop):
    class Stops:
        @staticmethod
        def list_to_record_batch(_messages):
            raise stop

    monkeypatch.setattr(DECODER._projection, "_handler", Stops())
    with pytest.raises(stop):
        DECODER.decode([(b"", ANONYMOUS)])


def test_messages_that_decode_alone_and_not_together_are_counted_not_raised(monkeypatch):
    real = DECODER._projection._handler

    class NeedsTwo:
        calls = 0

        @classmethod
        def list_to_record_batch(cls, messages):
            if len(messages) > 1:
                raise ValueError("not together")
            return real.list_to_record_batch(messages)

    monkeypatch.setattr(DECODER._projection, "_handler", NeedsTwo)
    decoded = DECODER.decode([(message(entry()), ANONYMOUS), (message(entry()), ANONYMOUS)])
    assert (decoded.requests.num_rows, decoded.malformed) == (0, 2)


def test_a_message_sized_metadata_entry_without_a_value_is_no_trouble():
    # b"\x8a\x01" is AccessLogCommon.metadata; the map entry has a key and no value, where ptars' own maps panic.
    common = field(1, b"\x8a\x01" + bytes([5]) + field(1, field(1, b"f")))
    decoded = DECODER.decode([(field(2, field(1, common)), ANONYMOUS)])
    assert (decoded.requests.num_rows, decoded.malformed) == (1, 0)


def test_of_a_repeated_map_key_the_last_value_counts():
    first, last = entry(), entry()
    for made, rule in ((first, "first"), (last, "last")):
        fields = {"mixer_rule": rule} | ({"mixer_decision": "gone"} if rule == "first" else {})
        made.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].update(fields)
        made.request.request_headers["content-type"] = "application/grpc" if rule == "last" else "text/plain"
    merged = first.SerializeToString() + last.SerializeToString()
    decoded = DECODER.decode([(_long(2, _long(1, merged)), ANONYMOUS)])
    assert decoded.requests.column("rule").to_pylist() == ["last"]
    assert decoded.requests.column("decision").to_pylist() == [""]
    assert decoded.requests.column("context_protocol").to_pylist() == ["grpc"]


def _long(number: int, content: bytes) -> bytes:
    length = bytearray()
    size = len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def test_entries_that_end_nothing_are_counted_not_stored():
    logs = [entry(common_properties__access_log_type=kind) for kind in (0, 4, 5, 6, 9, 10)]
    logs.append(entry(common_properties__access_log_type=6, common_properties__intermediate_log_entry=True))
    logs.append(entry(common_properties__access_log_type=77))
    decoded = DECODER.decode([(message(*logs, tcp=3), ANONYMOUS)])
    assert (decoded.requests.num_rows, decoded.connections.num_rows) == (2, 3)
    assert decoded.unfinished == {
        "DownstreamStart": 1, "DownstreamPeriodic": 1, "UpstreamEnd": 1, "DownstreamTunnelSuccessfullyEstablished": 1,
        "other": 2,
    }  # fmt: skip
    assert (decoded.malformed, decoded.received) == (0, 11)


def test_nothing_gives_an_empty_batch_of_the_right_columns():
    for messages in ([], [(b"", ANONYMOUS)]):
        decoded = DECODER.decode(messages)
        assert decoded.requests.schema == REQUESTS.schema
        assert decoded.received == 0


@given(seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1))
@example(2**63 - 1, 2**31 - 1)
@example(-(2**63), -(2**31))
@settings(deadline=None)
def test_no_clock_is_wrong_enough_to_break_a_row(seconds, nanos):
    made = entry()
    for part in ("start_time", "duration", "time_to_last_downstream_tx_byte"):
        getattr(made.common_properties, part).seconds = seconds
        getattr(made.common_properties, part).nanos = nanos
    decoded = DECODER.decode([(message(made), ANONYMOUS)])
    validation.check("requests", decoded.requests)
    assert rows_of(decoded)[0]["timestamp"] >= 0


@pytest.mark.parametrize(
    ("said", "details", "allowed", "verdict"),
    [
        ("allow", "ext_authz_error", "true", "allow"),
        ("deny", "", "", "deny"),
        ("", "ext_authz_error", "true", "error"),
        ("", "via_upstream", "true", "bypassed"),
        ("", "via_upstream", "false", "none"),
        ("", "", None, "none"),
    ],
)
def test_the_verdict_is_mixers_else_what_envoy_shows(said, details, allowed, verdict):
    made = entry(response__response_code_details=details)
    if said:
        metadata = made.common_properties.metadata.filter_metadata
        metadata["envoy.filters.http.ext_authz"].update({"mixer_verdict": said, "decision_id": "never issued here"})
    if allowed is not None:
        made.request.request_headers["x-envoy-auth-failure-mode-allowed"] = allowed
    decoded = DECODER.decode([(message(made), ANONYMOUS)])
    assert decoded.requests.column("verdict").to_pylist() == [verdict]
    assert decoded.requests.column("decision_id").to_pylist() == ["never issued here" if said else ""]


def test_a_tokens_payload_is_told_from_its_header_and_read_under_any_key():
    made, other = entry(), entry()
    payload = {"iss": "https://id.test", "sub": "ann", "aud": ["a", "b"], "azp": "web", "email": "private"}
    for one, objects in ((made, {"header": {"alg": "RS256"}, "token": payload}), (other, {"text": "no token"})):
        one.common_properties.metadata.filter_metadata["envoy.filters.http.jwt_authn"].update(objects)
    rows = rows_of(DECODER.decode([(message(made, entry(), other), ANONYMOUS)]))
    names = ("request_auth_principal", "request_auth_audiences", "request_auth_presenter")
    assert [[row[name] for name in names] for row in rows] == [
        ["https://id.test/ann", "a,b", "web"],
        [""] * 3,
        [""] * 3,
    ]
    assert not any("private" in str(row) for row in rows)


def test_a_token_that_is_garbage_tells_nothing():
    # A Struct {"t": struct_value: <garbage>} as metadata of jwt_authn: AccessLogCommon.metadata is field 17.
    value = field(5, b"\xff\xff")
    struct = field(1, field(1, b"t") + field(2, value))
    namespace = field(1, b"envoy.filters.http.jwt_authn") + field(2, struct)
    common = b"\x8a\x01" + bytes([len(field(1, namespace))]) + field(1, namespace)
    decoded = DECODER.decode([(field(2, field(1, field(1, common))), ANONYMOUS)])
    assert rows_of(decoded)[0]["request_auth_principal"] == ""
