"""A slow decoder of access logs: one entry, one dictionary, through protobuf's own classes; and random entries.

It says once more, in plain Python and entry by entry, what the columns must hold.
"""

from __future__ import annotations

import json
import math
import re
from urllib.parse import parse_qsl

from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.extensions.filters.http.grpc_stats.v3.config_pb2 import FilterObject
from google.protobuf import any_pb2, json_format, struct_pb2
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

SHORT = re.split(
    " ",
    "LH UH UT LR UR UF UC UO NR DI FI RL UAEX RLSE DC URX SI IH DPE UMSDR RFCF NFCF DT UPE NC OM DF DR",
)


def san(properties) -> str:
    for kind in ("uri", "dns"):
        for name in properties.subject_alt_name:
            if getattr(name, kind):
                return getattr(name, kind)
    return ""


def spiffe_part(principal: str, key: str) -> str:
    match = re.fullmatch(r"spiffe://[a-z0-9._-]+/ns/([A-Za-z0-9_.-]+)/sa/([A-Za-z0-9_.-]+)", principal)
    return "" if match is None else match[1 if key == "ns" else 2]


def metadata(entry, namespace: str, key: str):
    fields = entry.common_properties.metadata.filter_metadata
    if namespace not in fields or key not in fields[namespace].fields:
        return None
    value = fields[namespace].fields[key]
    return (
        getattr(value, value.WhichOneof("kind"))
        if value.WhichOneof("kind") in {"string_value", "number_value"}
        else None
    )


def text(entry, namespace: str, key: str) -> str:
    value = metadata(entry, namespace, key)
    return value if isinstance(value, str) else ""


def count(entry, namespace: str, key: str):
    value = metadata(entry, namespace, key)
    good = isinstance(value, float) and math.isfinite(value) and 0 <= value < 2**32
    return int(value) if good else None


def nanoseconds(message) -> int:
    return min(max(message.seconds, 0), 9_223_372_035) * 10**9 + min(max(message.nanos, 0), 999_999_999)


def microseconds(message) -> int:
    return max(min(max(message.seconds, -(10**12)), 10**12) * 10**6 + message.nanos // 1000, 0)


def ends(entry) -> bool:
    common = entry.common_properties
    kind = common.access_log_type
    return kind in {accesslog_pb2.NotSet, accesslog_pb2.DownstreamEnd} and not common.intermediate_log_entry


def parties(entry, identity, authority: str = "") -> dict:
    """What the entries of requests and of connections have alike."""
    common = entry.common_properties
    tls = common.tls_properties
    peer_san, own_san = san(tls.peer_certificate_properties), san(tls.local_certificate_properties)
    peer = peer_san or tls.peer_certificate_properties.subject
    own = own_san or tls.local_certificate_properties.subject
    cluster = common.upstream_cluster or common.custom_tags.get("upstream.cluster", "")
    if "inbound" in identity.log_name:
        reporter = "destination"
    elif "outbound" in identity.log_name:
        reporter = "source"
    elif cluster.startswith(("inbound|", "InboundPassthrough")):
        reporter = "destination"
    else:
        reporter = "source"
    direct = common.downstream_direct_remote_address.WhichOneof("address") == "socket_address"
    caller = (common.downstream_direct_remote_address if direct else common.downstream_remote_address).socket_address
    server = common.upstream_remote_address if reporter == "source" else common.downstream_local_address
    host = re.sub(r":\d*\Z", "", authority)
    name = re.match(r"\[[^\]]*\]|\d+\.\d+\.\d+\.\d+|[^.:]*", host)[0]
    namespace = host.split(".")[1] if re.fullmatch(r"[^.]+\.[^.]+\.svc(\..*)?", host, re.DOTALL) else ""
    service_uid = ""
    if cluster.endswith("PassthroughCluster"):
        name = cluster
    elif cluster.count("|") >= 3:
        fqdn = cluster.split("|")[3]
        if fqdn:
            host, name = fqdn, fqdn.split(".")[0]
            namespace = fqdn.split(".")[1] if fqdn.split(".")[2:3] == ["svc"] else ""
            service_uid = f"istio://{namespace}/services/{name}" if namespace else ""
    elif cluster and "|" not in cluster:
        host, name, namespace = cluster, cluster, ""
    flags = [
        code
        for code, field in zip(SHORT, accesslog_pb2.ResponseFlags.DESCRIPTOR.fields, strict=True)
        if (
            common.response_flags.HasField(field.name)
            if field.message_type
            else getattr(common.response_flags, field.name)
        )
    ]
    tags = dict(common.custom_tags)
    local = {
        "name": identity.node_metadata.get("NAME", ""),
        "owner": identity.node_metadata.get("OWNER", ""),
        "identity": "",
        "serviceAccount": identity.node_metadata.get("SERVICE_ACCOUNT", ""),
        "containers": identity.node_metadata.get("APP_CONTAINERS", ""),
        "labels": {
            key.removeprefix("LABELS."): value
            for key, value in sorted(identity.node_metadata.items())
            if key.startswith("LABELS.")
        },
        "workload_name": identity.node_metadata.get("WORKLOAD_NAME") or identity.node_cluster,
        "namespace": identity.node_metadata.get("NAMESPACE", ""),
        "cluster": identity.node_metadata.get("CLUSTER_ID", ""),
        "app": identity.node_metadata.get("LABELS.app", ""),
        "version": identity.node_metadata.get("LABELS.version", ""),
        "canonical_service": identity.node_metadata.get("LABELS.service.istio.io/canonical-name", ""),
        "canonical_revision": identity.node_metadata.get("LABELS.service.istio.io/canonical-revision", ""),
    }
    sides = {}
    facts_of = {
        "source": local if reporter == "source" else peer_facts(common, "downstream"),
        "destination": local if reporter == "destination" else peer_facts(common, "upstream"),
    }
    principal = own if reporter == "destination" else ""
    principal = principal or ("" if reporter == "destination" else tags.get("destination.principal", ""))
    principals = {
        "source": peer or uri(facts_of["source"]["identity"]),
        "destination": principal or ("" if reporter == "destination" else uri(facts_of["destination"]["identity"])),
    }
    for side, who in principals.items():
        facts = facts_of[side]
        sides |= {f"{side}_{key}": value for key, value in facts.items() if key not in {"identity", "containers"}}
        space = facts["namespace"] or spiffe_part(who, "ns")
        sides[f"{side}_workload_uid"] = (
            f"istio://{space}/workloads/{facts['workload_name']}" if space and facts["workload_name"] else ""
        )
        sides[f"{side}_uid"] = f"kubernetes://{facts['name']}.{space}" if facts["name"] and space else ""
        sides[f"{side}_serviceAccount"] = facts["serviceAccount"] or spiffe_part(who, "sa")
        sides[f"{side}_namespace"] = facts["namespace"] or spiffe_part(who, "ns")
        sides[f"{side}_workload_namespace"] = sides[f"{side}_namespace"]
        sides[f"{side}_workload_name"] = facts["workload_name"] or spiffe_part(who, "sa")
    return sides | {
        "reporter": reporter,
        "context_reporter_uid": identity.node_id,
        "context_proxy_version": identity.node_metadata.get("ISTIO_VERSION", ""),
        "destination_container_name": facts_of["destination"]["containers"],
        "destination_service_uid": service_uid,
        "source_ip": caller.address,
        "source_port": min(caller.port_value, 65535),
        "origin_ip": common.downstream_remote_address.socket_address.address,
        "source_principal": principals["source"],
        "destination_ip": server.socket_address.address,
        "destination_port": min(server.socket_address.port_value, 65535),
        "destination_principal": principals["destination"],
        "destination_service_host": host,
        "destination_service_name": name,
        "destination_service_namespace": namespace or sides["destination_namespace"],
        "connection_mtls": bool(peer_san and own_san),
        "connection_requested_server_name": tls.tls_sni_hostname,
        "response_flags": ",".join(flags) or "-",
        "upstream_cluster": common.upstream_cluster,
        "upstream_transport_failure_reason": common.upstream_transport_failure_reason,
        "route_name": common.route_name,
        "connection_termination_details": common.connection_termination_details,
        "downstream_transport_failure_reason": common.downstream_transport_failure_reason,
        "upstream_ip": common.upstream_remote_address.socket_address.address,
        "upstream_request_attempt_count": common.upstream_request_attempt_count,
        "upstream_wire_bytes_sent": common.upstream_wire_bytes_sent,
        "upstream_wire_bytes_received": common.upstream_wire_bytes_received,
        "tls_version": {1: "TLSv1", 2: "TLSv1.1", 3: "TLSv1.2", 4: "TLSv1.3"}.get(tls.tls_version, ""),
        "custom_tags": tags,
        **{f"api_{name}": tags.get(f"api.{name}", "") for name in ("service", "version", "operation", "protocol")},
    }


def token(entry, *, everything: bool) -> dict:
    fields = entry.common_properties.metadata.filter_metadata
    claims: dict = {}
    for namespace in (JWT, ISTIO_JWT):
        for value in fields[namespace].fields.values() if namespace in fields else ():
            if "iss" in value.struct_value.fields and not claims:
                claims = dict(value.struct_value.fields)
    texts = {
        name: ",".join(one.string_value for one in value.list_value.values) or value.string_value
        for name, value in claims.items()
    }
    return {
        "request_auth_principal": f"{texts['iss']}/{texts['sub']}" if "sub" in texts else "",
        "request_auth_audiences": texts.get("aud", ""),
        "request_auth_presenter": texts.get("azp", ""),
        "request_auth_claims": {name: claim(value) for name, value in sorted(claims.items())} if everything else {},
    }


def claim(value) -> str:
    plain = json_format.MessageToDict(value)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, list) and all(isinstance(one, str) for one in plain):
        return ",".join(plain)
    numbers = json.loads(json.dumps(plain), parse_float=number)
    return json.dumps(numbers, separators=(",", ":"), ensure_ascii=False)


def number(digits: str) -> float:
    value = float(digits)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def shadowed(entry, filter_name: str) -> dict:
    told = [
        (text(entry, filter_name, f"{prefix}shadow_engine_result"),
         text(entry, filter_name, f"{prefix}shadow_effective_policy_id"))
        for prefix in ("", "istio_dry_run_deny_", "istio_dry_run_allow_")
    ]  # fmt: skip
    denied = [one for one in told if one[0] == "denied"]
    result = [*denied, *(one for one in told if one[0]), ("", "")][0][0]
    policies = [policy for one, policy in told if one == result and policy]
    policy = [*policies, ""][0] if result else ""
    return {"rbac_permissive_response_code": result, "rbac_permissive_effective_policy_id": policy}


JWT = "envoy.filters.http.jwt_authn"
ISTIO_JWT = "istio_authn"
SPANS = [f"time_to_{point}" for point in (
    "last_rx_byte", "first_upstream_tx_byte", "last_upstream_tx_byte", "first_upstream_rx_byte",
    "last_upstream_rx_byte", "first_downstream_tx_byte", "last_downstream_tx_byte",
)]  # fmt: skip
GRPC_STATS = "envoy.filters.http.grpc_stats"
STRUCT = "type.googleapis.com/google.protobuf.Struct"


def response_time(common, now: int) -> int:
    start = nanoseconds(common.start_time) if common.HasField("start_time") else now
    for name in ("time_to_first_upstream_rx_byte", "time_to_first_downstream_tx_byte"):
        if common.HasField(name):
            return min(start + microseconds(getattr(common, name)) * 1000, start + (2**63 - 1 - start) // 1000 * 1000)
    return 0


def span(common, name: str):
    return microseconds(getattr(common, name)) if common.HasField(name) else None


def uri(identity: str) -> str:
    return identity if not identity or "://" in identity else f"spiffe://{identity}"


def peer_facts(common, which: str) -> dict:
    """What a Struct of the latest form says of the peer; other forms have tests of their own."""
    facts = dict.fromkeys(
        ("namespace", "workload_name", "canonical_service", "canonical_revision", "app", "version", "cluster", "name",
         "owner", "identity"), "",
    )  # fmt: skip
    facts |= {"serviceAccount": "", "containers": "", "labels": {}}
    told = common.filter_state_objects.get(f"{which}_peer")
    if told is None or told.type_url != STRUCT:
        return facts
    names = {"workload_name": "workload", "canonical_service": "service", "canonical_revision": "revision"}
    fields = struct_pb2.Struct.FromString(told.value).fields
    unnamed = {"owner", "serviceAccount", "containers", "labels"}
    return {key: fields[names.get(key, key)].string_value if names.get(key, key) in fields and key not in unnamed
            else facts[key] for key in facts}  # fmt: skip


def decided(entry, filter_name: str) -> dict:
    return {
        "decision_id": text(entry, filter_name, "decision_id"),
        "decision": text(entry, filter_name, "mixer_decision"),
        "policy_revision": text(entry, filter_name, "mixer_revision"),
        "rule": text(entry, filter_name, "mixer_rule"),
        "reasons": text(entry, filter_name, "mixer_reasons"),
    }


def query(path: str) -> dict:
    found = {}
    for name, value in parse_qsl(path.partition("#")[0].partition("?")[2], keep_blank_values=True):
        found.setdefault(name, value)
    return found


def row(entry, identity, now: int, *, everything: bool = False) -> dict:
    """A row of `requests`, with all headers and parameters or none."""
    common, request, response = entry.common_properties, entry.request, entry.response
    ext_authz, ratelimit = "envoy.filters.http.ext_authz", "envoy.filters.http.ratelimit"
    verdict = text(entry, ext_authz, "mixer_verdict")
    if not verdict:
        if "ext_authz_error" in response.response_code_details:
            verdict = "error"
        elif request.request_headers.get("x-envoy-auth-failure-mode-allowed") == "true":
            verdict = "bypassed"
        else:
            verdict = "none"
    grpc = {
        name: response.response_trailers.get(name) or response.response_headers.get(name, "")
        for name in ("grpc-status", "grpc-message")
    }
    is_grpc = request.request_headers.get("content-type", "").startswith("application/grpc") or grpc["grpc-status"]
    messages = FilterObject()
    if GRPC_STATS in common.filter_state_objects:
        try:
            messages = FilterObject.FromString(common.filter_state_objects[GRPC_STATS].value)
        except DecodeError:
            messages = FilterObject()
    methods = dict(base_pb2.RequestMethod.items())
    known = {number: label for label, number in methods.items() if number}
    return parties(entry, identity, request.authority) | decided(entry, ext_authz) | {
        "timestamp": nanoseconds(common.start_time) if common.HasField("start_time") else now,
        "request_id": request.request_id,
        "verdict": verdict,
        "quota_name": text(entry, ext_authz, "mixer_quota"),
        "quota_code": text(entry, ext_authz, "mixer_quota_code"),
        "quota_remaining": count(entry, ext_authz, "mixer_quota_remaining"),
        "limit_name": text(entry, ratelimit, "mixer_limit"),
        "limit_code": text(entry, ratelimit, "mixer_code"),
        "limit_remaining": count(entry, ratelimit, "mixer_remaining"),
        "context_protocol": "grpc" if is_grpc else "http",
        "protocol_version": {1: "HTTP/1.0", 2: "HTTP/1.1", 3: "HTTP/2", 4: "HTTP/3"}.get(entry.protocol_version, ""),
        "request_method": known.get(request.request_method, ""),
        "request_scheme": request.scheme,
        "request_host": request.authority,
        "request_url_path": re.split("[?#]", request.original_path or request.path)[0],
        "request_query_params": query(request.original_path or request.path) if everything else {},
        "request_headers": dict(request.request_headers) if everything else {},
        "request_referer": request.referer if everything else "",
        "response_headers": dict(response.response_headers) if everything else {},
        "response_trailers": dict(response.response_trailers) if everything else {},
        "request_useragent": request.user_agent,
        "request_size": request.request_body_bytes,
        "request_total_size": common.downstream_wire_bytes_received,
        "response_code": min(response.response_code.value, 65535),
        "response_code_details": response.response_code_details,
        "response_grpc_status": grpc["grpc-status"],
        "response_grpc_message": grpc["grpc-message"],
        "response_size": response.response_body_bytes,
        "response_total_size": common.downstream_wire_bytes_sent,
        "request_headers_bytes": request.request_headers_bytes,
        "response_headers_bytes": response.response_headers_bytes,
        **token(entry, everything=everything),
        **shadowed(entry, "envoy.filters.http.rbac"),
        "response_time": response_time(common, now),
        "request_messages": messages.request_message_count,
        "response_messages": messages.response_message_count,
        **{name: span(common, name) for name in SPANS},
        "response_duration": microseconds(
            common.duration if common.HasField("duration") else common.time_to_last_downstream_tx_byte
        ),
    }  # fmt: skip


EVENTS = {0: "close", 1: "open", 3: "close", 4: "open", 6: "close", 7: "open", 9: "close", 10: "open", 11: "open",
          13: "close", 14: "open"}  # fmt: skip


def connection_row(entry, identity, now: int) -> dict:
    """A row of `connections`, without what it adds to the connection's row before."""
    common, counts = entry.common_properties, entry.connection_properties
    filter_name = "envoy.filters.network.ext_authz"
    event = EVENTS.get(common.access_log_type, "continue")
    if common.access_log_type == 0 and common.intermediate_log_entry:
        event = "continue"
    start = nanoseconds(common.start_time) if common.HasField("start_time") else now
    lasted = common.HasField("duration")
    told = lasted or event == "open"
    failed = "ext_authz_error" in common.connection_termination_details
    return parties(entry, identity) | decided(entry, filter_name) | shadowed(entry, "envoy.filters.network.rbac") | {
        "timestamp": min(start + microseconds(common.duration) * 1000, start + (2**63 - 1 - start) // 1000 * 1000)
        if told else now,
        "connection_id": common.stream_id,
        "connection_event": event,
        "verdict": text(entry, filter_name, "mixer_verdict") or ("error" if failed else "none"),
        "connection_received_bytes_total": counts.received_bytes,
        "connection_sent_bytes_total": counts.sent_bytes,
        "connection_duration": microseconds(common.duration) if lasted else None,
    }  # fmt: skip


# --- random entries ---

words = st.text(st.characters(codec="utf-8"), max_size=8)
uint32, uint64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
int64, int32 = st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1)
spiffe_ids = st.builds("spiffe://td/ns/{}/sa/{}".format, st.sampled_from("ab"), st.sampled_from("cd"))
clusters = st.sampled_from(
    ["", "inbound|80||", "outbound|80|v1|reviews.shop.svc.cluster.local", "outbound|443||example.com", "reviews",
     "PassthroughCluster", "InboundPassthroughCluster", "BlackHole", "a|b"]
)  # fmt: skip
authorities = st.one_of(
    words,
    st.sampled_from(
        ["reviews:80", "a.b.svc", "a.b.svc.cluster.local:9080", "10.0.0.1:80", "[::1]:80", "a.b.c", "a.\nb.svc.\n"]
    ),
)
paths = st.one_of(words, st.sampled_from(["/a?b=c", "/a#b", "?", "/a\n?b", "/ä?ö\nü", "/?a=1&b=%20&a=2", "/?a#&b=c"]))
headers = st.dictionaries(
    st.sampled_from(
        ["content-type", "grpc-status", "grpc-message", "x-envoy-auth-failure-mode-allowed", "x-other", ""]
    ),
    st.one_of(words, st.sampled_from(["true", "application/grpc", "application/grpc+proto", "0"])),
)
scalars = st.one_of(words, st.floats(), st.integers(0, 100).map(float), st.booleans(), st.none(),
                    st.lists(words, max_size=2), st.dictionaries(words, words, max_size=1))  # fmt: skip
KEYS = [
    "decision_id", "mixer_verdict", "mixer_revision", "mixer_decision", "mixer_rule", "mixer_reasons", "mixer_quota",
    "mixer_quota_code", "mixer_quota_remaining", "mixer_limit", "mixer_code", "mixer_remaining", "other",
]  # fmt: skip
SHADOW = [
    prefix + key
    for prefix in ("", "istio_dry_run_deny_", "istio_dry_run_allow_")
    for key in ("shadow_engine_result", "shadow_effective_policy_id")
]
namespaces = st.dictionaries(
    st.sampled_from(
        [
            "envoy.filters.http.ext_authz",
            "envoy.filters.network.ext_authz",
            "envoy.filters.http.ratelimit",
            "other",
            "",
        ]
    ),
    st.dictionaries(st.sampled_from(KEYS), scalars),
)


finite = st.floats(allow_nan=False, allow_infinity=False)
claims = st.dictionaries(
    st.sampled_from(["iss", "sub", "aud", "azp", "exp", "ä"]),
    st.one_of(words, st.lists(words, max_size=3), st.integers(0, 2**40), st.booleans(), finite, st.none(),
              st.dictionaries(words, st.lists(finite, max_size=2), max_size=1)),
)  # fmt: skip
tokens = st.dictionaries(st.just("payload"), claims, max_size=1)
shadows = st.dictionaries(st.sampled_from(SHADOW), st.one_of(st.sampled_from(["allowed", "denied"]), words))


@st.composite
def objects(draw) -> any_pb2.Any:
    """An object of filter state: a peer, counts of gRPC, or neither."""
    if draw(st.booleans()):
        keys = st.sampled_from(["namespace", "workload", "service", "revision", "app", "version", "cluster", "name",
                                "identity", "region"])  # fmt: skip
        peer = struct_pb2.Struct()
        peer.update(draw(st.dictionaries(keys, st.one_of(words, spiffe_ids))))
        return any_pb2.Any(type_url=STRUCT, value=peer.SerializeToString())
    counts = FilterObject(request_message_count=draw(uint64), response_message_count=draw(uint64))
    value = draw(st.sampled_from([counts.SerializeToString(), b"\xff", b""]))
    return any_pb2.Any(type_url=draw(words), value=value)


def fill_rest(draw, common) -> None:
    for name, claims in draw(tokens).items():
        common.metadata.filter_metadata[draw(st.sampled_from([JWT, ISTIO_JWT]))].update({name: claims})
    for layer in ("http", "network"):
        common.metadata.filter_metadata[f"envoy.filters.{layer}.rbac"].update(draw(shadows))
    for name in SPANS[:-1]:
        if draw(st.booleans()):
            getattr(common, name).nanos = draw(int32)
    common.upstream_request_attempt_count = draw(uint32)
    common.upstream_wire_bytes_sent, common.upstream_wire_bytes_received = draw(uint64), draw(uint64)
    common.downstream_transport_failure_reason = draw(words)
    common.tls_properties.tls_version = draw(st.integers(0, 6))
    tags = st.sampled_from(["destination.principal", "api.service", "api.version", "", "tenant"])
    common.custom_tags.update(draw(st.dictionaries(tags, st.one_of(words, spiffe_ids), max_size=3)))
    if draw(st.booleans()):
        common.custom_tags["upstream.cluster"] = draw(clusters)
    for name in draw(st.lists(st.sampled_from(["downstream_peer", "upstream_peer", GRPC_STATS, "x"]), unique=True)):
        common.filter_state_objects[name].CopyFrom(draw(objects()))


def fill_common(draw, common, kinds) -> None:  # noqa: C901, PLR0912 (one message)
    flip = st.booleans()
    common.access_log_type = draw(st.sampled_from(kinds))
    common.intermediate_log_entry = draw(st.sampled_from([False, False, False, True]))
    for field in ("downstream_remote_address", "downstream_local_address", "upstream_remote_address",
                  "downstream_direct_remote_address"):  # fmt: skip
        which = draw(st.integers(0, 3))
        if which > 1:
            getattr(common, field).socket_address.address = draw(words)
            getattr(common, field).socket_address.port_value = draw(st.one_of(st.integers(0, 65535), uint32))
        elif which:
            getattr(common, field).pipe.path = draw(words)
    for field in ("start_time", "duration", "time_to_last_downstream_tx_byte"):
        if draw(flip):
            getattr(common, field).seconds = draw(st.one_of(st.integers(0, 2 * 10**9), int64))
            getattr(common, field).nanos = draw(st.one_of(st.integers(0, 999_999_999), int32))
    if draw(flip):
        tls = common.tls_properties
        tls.tls_sni_hostname = draw(words)
        for side in (tls.peer_certificate_properties, tls.local_certificate_properties):
            for _ in range(draw(st.integers(0, 3))):
                which = draw(st.integers(0, 4))
                name = side.subject_alt_name.add()
                if which:
                    setattr(name, "uri" if which < 3 else "dns", draw(st.one_of(spiffe_ids, words)))
            side.subject = draw(words)
    for field in draw(st.lists(st.sampled_from(list(accesslog_pb2.ResponseFlags.DESCRIPTOR.fields)), max_size=4)):
        if field.message_type:
            common.response_flags.unauthorized_details.reason = draw(st.integers(0, 1))
        else:
            setattr(common.response_flags, field.name, draw(flip))
    for namespace, values in draw(namespaces).items():
        common.metadata.filter_metadata[namespace].update(values)
    common.upstream_cluster = draw(clusters)
    if draw(flip):
        fill_rest(draw, common)
    common.route_name, common.upstream_transport_failure_reason = draw(words), draw(words)
    common.downstream_wire_bytes_received, common.downstream_wire_bytes_sent = draw(uint64), draw(uint64)


@st.composite
def entries(draw) -> accesslog_pb2.HTTPAccessLogEntry:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    entry.protocol_version = draw(st.integers(0, 6))
    flip = st.booleans()
    if draw(flip):
        fill_common(draw, entry.common_properties, [0, 0, 0, 6, 6, 4, 5, 9, 10, 77, -1])
    if draw(flip):
        request = entry.request
        request.request_method = draw(st.integers(0, 12))
        request.authority = draw(authorities)
        request.scheme, request.user_agent, request.request_id = draw(words), draw(words), draw(words)
        request.referer = draw(words)
        request.path, request.original_path = draw(paths), draw(st.one_of(st.just(""), paths))
        request.request_body_bytes, request.request_headers_bytes = draw(uint64), draw(uint64)
        request.request_headers.update(draw(headers))
    if draw(flip):
        response = entry.response
        if draw(flip):
            response.response_code.value = draw(st.one_of(st.sampled_from([200, 403, 429]), uint32))
        response.response_code_details = draw(st.one_of(words, st.sampled_from(["ext_authz_error", "via_upstream"])))
        response.response_body_bytes, response.response_headers_bytes = draw(uint64), draw(uint64)
        response.response_headers.update(draw(headers))
        response.response_trailers.update(draw(headers))
    return entry


@st.composite
def tcp_entries(draw) -> accesslog_pb2.TCPAccessLogEntry:
    entry = accesslog_pb2.TCPAccessLogEntry()
    if draw(st.booleans()):
        common = entry.common_properties
        fill_common(draw, common, [*range(15), 77, -1])
        common.stream_id = draw(st.sampled_from(["", "a", "b", "c" * 200]))
        common.connection_termination_details = draw(st.sampled_from(["", "ext_authz_error", "rbac"]))
    if draw(st.booleans()):
        entry.connection_properties.received_bytes = draw(uint64)
        entry.connection_properties.sent_bytes = draw(uint64)
    return entry
