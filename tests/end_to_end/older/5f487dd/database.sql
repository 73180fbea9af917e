CREATE DATABASE IF NOT EXISTS mesh;

CREATE TABLE IF NOT EXISTS mesh.requests (
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the request',
    request_id String CODEC(ZSTD(1)) COMMENT 'x-request-id, the same at every proxy it passed',
    decision_id String CODEC(ZSTD(1)) COMMENT 'the decision that let it through or not',
    verdict LowCardinality(String) COMMENT 'allow, deny, error, bypassed (Envoy went on without an answer) or none',
    decision LowCardinality(String) COMMENT 'path of the decision in the policy',
    policy_revision LowCardinality(String) COMMENT 'revision of the policy that decided',
    rule LowCardinality(String) COMMENT 'the rule that decided, such as `data.envoy.authz.allow`',
    reasons String CODEC(ZSTD(1)) COMMENT 'why, joined by `; `',
    quota_name LowCardinality(String) COMMENT 'the attribute quota that decided, or had the least left',
    quota_code LowCardinality(String) COMMENT 'OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged',
    quota_remaining Nullable(UInt32) CODEC(ZSTD(1)) COMMENT 'what was left of that quota',
    limit_name LowCardinality(String) COMMENT 'the rate-limit rule that decided',
    limit_code LowCardinality(String) COMMENT 'OK or OVER_LIMIT; empty when none was asked',
    limit_remaining Nullable(UInt32) CODEC(ZSTD(1)) COMMENT 'what was left of that limit',
    reporter LowCardinality(String) COMMENT 'which side\'s proxy reports: source, destination or waypoint',
    context_reporter_uid LowCardinality(String) COMMENT 'id of the proxy that reports',
    context_protocol LowCardinality(String) COMMENT 'http or grpc',
    protocol_version LowCardinality(String) COMMENT 'version of HTTP downstream',
    source_ip String CODEC(ZSTD(1)) COMMENT 'address that the connection came from',
    source_port UInt16 CODEC(T64, ZSTD(1)) COMMENT 'its port',
    origin_ip String CODEC(ZSTD(1)) COMMENT 'original client, after x-forwarded-for as Envoy trusts it',
    source_principal LowCardinality(String) COMMENT 'identity of the caller\'s certificate',
    source_namespace LowCardinality(String) COMMENT 'namespace of the caller',
    source_workload_name LowCardinality(String) COMMENT 'workload of the caller; from a SPIFFE name, its service account',
    source_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the caller',
    source_canonical_service LowCardinality(String) COMMENT 'canonical service of the caller',
    source_canonical_revision LowCardinality(String) COMMENT 'canonical revision of the caller',
    source_app LowCardinality(String) COMMENT 'label `app` of the caller',
    source_version LowCardinality(String) COMMENT 'label `version` of the caller',
    source_cluster LowCardinality(String) COMMENT 'Kubernetes cluster of the caller',
    source_name LowCardinality(String) COMMENT 'instance of the caller, a pod',
    source_owner LowCardinality(String) COMMENT 'what controls the caller',
    source_workload_uid LowCardinality(String) COMMENT 'id of the workload of the caller',
    destination_ip String CODEC(ZSTD(1)) COMMENT 'address of the server',
    destination_port UInt16 CODEC(T64, ZSTD(1)) COMMENT 'its port',
    destination_principal LowCardinality(String) COMMENT 'identity of the server\'s certificate',
    destination_namespace LowCardinality(String) COMMENT 'namespace of the server',
    destination_workload_name LowCardinality(String) COMMENT 'workload of the server; from a SPIFFE name, its service account',
    destination_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the server',
    destination_canonical_service LowCardinality(String) COMMENT 'canonical service of the server',
    destination_canonical_revision LowCardinality(String) COMMENT 'canonical revision of the server',
    destination_app LowCardinality(String) COMMENT 'label `app` of the server',
    destination_version LowCardinality(String) COMMENT 'label `version` of the server',
    destination_cluster LowCardinality(String) COMMENT 'Kubernetes cluster of the server',
    destination_name LowCardinality(String) COMMENT 'instance of the server, a pod',
    destination_owner LowCardinality(String) COMMENT 'what controls the server',
    destination_workload_uid LowCardinality(String) COMMENT 'id of the workload of the server',
    destination_service_host LowCardinality(String) COMMENT 'host of the service',
    destination_service_name LowCardinality(String) COMMENT 'short name of the service',
    destination_service_namespace LowCardinality(String) COMMENT 'namespace of the service',
    request_method LowCardinality(String) COMMENT 'method',
    request_scheme LowCardinality(String) COMMENT 'scheme',
    request_host String CODEC(ZSTD(1)) COMMENT 'authority or Host header',
    request_url_path String CODEC(ZSTD(1)) COMMENT 'path as the client sent it, without query',
    request_query_params Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'parameters of the query, decoded; of a repeated one the first value',
    request_headers Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'request headers by name',
    request_referer String CODEC(ZSTD(1)) COMMENT 'Referer',
    request_useragent String CODEC(ZSTD(1)) COMMENT 'User-Agent',
    request_auth_principal LowCardinality(String) COMMENT 'issuer and subject of the token',
    request_auth_audiences LowCardinality(String) COMMENT 'audiences of the token, joined by commas',
    request_auth_presenter LowCardinality(String) COMMENT 'authorized presenter of the token',
    request_size UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes of the request\'s body',
    request_total_size UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes received on the wire',
    request_headers_bytes UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes of the request\'s headers',
    response_code UInt16 CODEC(T64, ZSTD(1)) COMMENT 'HTTP status; 0 when none was sent',
    response_code_details LowCardinality(String) COMMENT 'what made the response',
    response_flags LowCardinality(String) COMMENT 'Envoy\'s short codes, joined by commas; - when there are none',
    response_grpc_status LowCardinality(String) COMMENT 'grpc-status, if logged',
    response_grpc_message String CODEC(ZSTD(1)) COMMENT 'grpc-message, if logged',
    response_headers Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'response headers by name',
    response_trailers Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'response trailers by name',
    response_size UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes of the response\'s body',
    response_total_size UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes sent on the wire',
    response_headers_bytes UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes of the response\'s headers',
    response_duration UInt64 CODEC(T64, ZSTD(1)) COMMENT 'microseconds from first byte received to last byte sent',
    time_to_last_rx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the last byte of the request had come',
    time_to_first_upstream_tx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the first byte was sent upstream',
    time_to_last_upstream_tx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the last byte was sent upstream',
    time_to_first_upstream_rx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the first byte of the response came from upstream',
    time_to_last_upstream_rx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the last byte of the response came from upstream',
    time_to_first_downstream_tx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the first byte of the response was sent',
    time_to_last_downstream_tx_byte Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds until the last byte of the response was sent',
    request_messages UInt64 CODEC(T64, ZSTD(1)) COMMENT 'messages that the client sent, of gRPC',
    response_messages UInt64 CODEC(T64, ZSTD(1)) COMMENT 'messages that the server sent, of gRPC',
    connection_mtls Bool COMMENT 'both sides showed a certificate with a name downstream',
    connection_requested_server_name LowCardinality(String) COMMENT 'SNI',
    connection_termination_details LowCardinality(String) COMMENT 'what ended the connection, where that was Envoy',
    upstream_cluster LowCardinality(String) COMMENT 'Envoy\'s cluster',
    upstream_transport_failure_reason LowCardinality(String) COMMENT 'why the upstream connection failed',
    upstream_ip String CODEC(ZSTD(1)) COMMENT 'address of the upstream that was chosen',
    upstream_request_attempt_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'tries to reach an upstream, retries included',
    upstream_wire_bytes_sent UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes sent upstream on the wire',
    upstream_wire_bytes_received UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes received from upstream on the wire',
    downstream_transport_failure_reason LowCardinality(String) COMMENT 'why the connection of the client failed',
    tls_version LowCardinality(String) COMMENT 'version of TLS downstream',
    api_service LowCardinality(String) COMMENT 'API service',
    api_version LowCardinality(String) COMMENT 'API version',
    api_operation LowCardinality(String) COMMENT 'API operation',
    api_protocol LowCardinality(String) COMMENT 'API protocol',
    custom_tags Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'custom tags by name',
    route_name LowCardinality(String) COMMENT 'Envoy\'s route',
    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_decision_id decision_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree ORDER BY (toStartOfHour(timestamp), destination_service_name, verdict, timestamp)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row a finished request: verdict, limits and outcome together, from Envoy\'s access log';

CREATE TABLE IF NOT EXISTS mesh.connections (
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when Envoy reported',
    connection_id String CODEC(ZSTD(1)) COMMENT 'the connection, the same in each of its rows',
    connection_event LowCardinality(String) COMMENT 'open, continue or close',
    decision_id String CODEC(ZSTD(1)) COMMENT 'the decision that let it through or not',
    verdict LowCardinality(String) COMMENT 'allow, deny, error or none',
    decision LowCardinality(String) COMMENT 'path of the decision in the policy',
    policy_revision LowCardinality(String) COMMENT 'revision of the policy that decided',
    rule LowCardinality(String) COMMENT 'the rule that decided, such as `data.envoy.authz.allow`',
    reasons String CODEC(ZSTD(1)) COMMENT 'why, joined by `; `',
    reporter LowCardinality(String) COMMENT 'which side\'s proxy reports: source, destination or waypoint',
    context_reporter_uid LowCardinality(String) COMMENT 'id of the proxy that reports',
    source_ip String CODEC(ZSTD(1)) COMMENT 'address that the connection came from',
    source_port UInt16 CODEC(T64, ZSTD(1)) COMMENT 'its port',
    origin_ip String CODEC(ZSTD(1)) COMMENT 'original client, after x-forwarded-for as Envoy trusts it',
    source_principal LowCardinality(String) COMMENT 'identity of the caller\'s certificate',
    source_namespace LowCardinality(String) COMMENT 'namespace of the caller',
    source_workload_name LowCardinality(String) COMMENT 'workload of the caller; from a SPIFFE name, its service account',
    source_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the caller',
    source_canonical_service LowCardinality(String) COMMENT 'canonical service of the caller',
    source_canonical_revision LowCardinality(String) COMMENT 'canonical revision of the caller',
    source_app LowCardinality(String) COMMENT 'label `app` of the caller',
    source_version LowCardinality(String) COMMENT 'label `version` of the caller',
    source_cluster LowCardinality(String) COMMENT 'Kubernetes cluster of the caller',
    source_name LowCardinality(String) COMMENT 'instance of the caller, a pod',
    source_owner LowCardinality(String) COMMENT 'what controls the caller',
    source_workload_uid LowCardinality(String) COMMENT 'id of the workload of the caller',
    destination_ip String CODEC(ZSTD(1)) COMMENT 'address of the server',
    destination_port UInt16 CODEC(T64, ZSTD(1)) COMMENT 'its port',
    destination_principal LowCardinality(String) COMMENT 'identity of the server\'s certificate',
    destination_namespace LowCardinality(String) COMMENT 'namespace of the server',
    destination_workload_name LowCardinality(String) COMMENT 'workload of the server; from a SPIFFE name, its service account',
    destination_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the server',
    destination_canonical_service LowCardinality(String) COMMENT 'canonical service of the server',
    destination_canonical_revision LowCardinality(String) COMMENT 'canonical revision of the server',
    destination_app LowCardinality(String) COMMENT 'label `app` of the server',
    destination_version LowCardinality(String) COMMENT 'label `version` of the server',
    destination_cluster LowCardinality(String) COMMENT 'Kubernetes cluster of the server',
    destination_name LowCardinality(String) COMMENT 'instance of the server, a pod',
    destination_owner LowCardinality(String) COMMENT 'what controls the server',
    destination_workload_uid LowCardinality(String) COMMENT 'id of the workload of the server',
    destination_service_host LowCardinality(String) COMMENT 'host of the service',
    destination_service_name LowCardinality(String) COMMENT 'short name of the service',
    destination_service_namespace LowCardinality(String) COMMENT 'namespace of the service',
    connection_received_bytes UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes from the client since the report before',
    connection_sent_bytes UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes to the client since the report before',
    connection_received_bytes_total UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes from the client until now',
    connection_sent_bytes_total UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes to the client until now',
    connection_duration Nullable(UInt64) CODEC(ZSTD(1)) COMMENT 'microseconds that it lasted; Envoy tells it at its end only',
    connection_mtls Bool COMMENT 'both sides showed a certificate with a name downstream',
    connection_requested_server_name LowCardinality(String) COMMENT 'SNI',
    connection_termination_details LowCardinality(String) COMMENT 'what ended the connection, where that was Envoy',
    response_flags LowCardinality(String) COMMENT 'Envoy\'s short codes, joined by commas; - when there are none',
    upstream_cluster LowCardinality(String) COMMENT 'Envoy\'s cluster',
    upstream_transport_failure_reason LowCardinality(String) COMMENT 'why the upstream connection failed',
    upstream_ip String CODEC(ZSTD(1)) COMMENT 'address of the upstream that was chosen',
    upstream_request_attempt_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'tries to reach an upstream, retries included',
    upstream_wire_bytes_sent UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes sent upstream on the wire',
    upstream_wire_bytes_received UInt64 CODEC(T64, ZSTD(1)) COMMENT 'bytes received from upstream on the wire',
    downstream_transport_failure_reason LowCardinality(String) COMMENT 'why the connection of the client failed',
    tls_version LowCardinality(String) COMMENT 'version of TLS downstream',
    api_service LowCardinality(String) COMMENT 'API service',
    api_version LowCardinality(String) COMMENT 'API version',
    api_operation LowCardinality(String) COMMENT 'API operation',
    api_protocol LowCardinality(String) COMMENT 'API protocol',
    custom_tags Map(LowCardinality(String), String) CODEC(ZSTD(1)) COMMENT 'custom tags by name',
    route_name LowCardinality(String) COMMENT 'Envoy\'s route',
    INDEX by_connection_id connection_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_decision_id decision_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree ORDER BY (toStartOfHour(timestamp), destination_service_name, timestamp)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row a report about a TCP connection: opened, at intervals, closed; from Envoy\'s access log';

CREATE TABLE IF NOT EXISTS mesh.decisions (
    timestamp DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when it was decided',
    decision_id String CODEC(ZSTD(1)) COMMENT 'its id, also in Envoy\'s dynamic metadata',
    request_id String CODEC(ZSTD(1)) COMMENT 'x-request-id of the request',
    verdict LowCardinality(String) COMMENT 'allow, deny or error',
    decision LowCardinality(String) COMMENT 'path of the decision in the policy',
    rule LowCardinality(String) COMMENT 'the rule that decided, such as `data.envoy.authz.allow`',
    reasons String CODEC(ZSTD(1)) COMMENT 'why, joined by `; `',
    error String CODEC(ZSTD(1)) COMMENT 'what went wrong when the verdict is error',
    policy_revision LowCardinality(String) COMMENT 'revision of the policy that decided',
    bundle_revision LowCardinality(String) COMMENT 'revision of its bundle; of several, `bundle=revision` joined by `; `',
    http_status UInt16 CODEC(T64, ZSTD(1)) COMMENT 'status that the caller gets from a denial; 0 when allowed',
    quota_name LowCardinality(String) COMMENT 'the attribute quota that decided, or had the least left',
    quota_code LowCardinality(String) COMMENT 'OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged',
    quota_remaining Nullable(UInt32) CODEC(ZSTD(1)) COMMENT 'what was left of that quota',
    source_ip String CODEC(ZSTD(1)) COMMENT 'address of the caller',
    source_principal LowCardinality(String) COMMENT 'identity of the caller',
    source_namespace LowCardinality(String) COMMENT 'its namespace',
    destination_ip String CODEC(ZSTD(1)) COMMENT 'address of the server',
    destination_principal LowCardinality(String) COMMENT 'identity of the server',
    destination_namespace LowCardinality(String) COMMENT 'its namespace',
    request_method LowCardinality(String) COMMENT 'method',
    request_host String CODEC(ZSTD(1)) COMMENT 'authority or Host header',
    request_url_path String CODEC(ZSTD(1)) COMMENT 'path without query',
    tier LowCardinality(String) COMMENT 'how the policy was evaluated',
    cache LowCardinality(String) COMMENT 'hit, miss or bypass of the decision cache',
    dry_run Bool COMMENT 'whether the verdict was only noted',
    duration_us Float64 CODEC(ZSTD(1)) COMMENT 'microseconds that the decision took',
    shadow_verdict LowCardinality(String) COMMENT 'the candidate\'s: allow, deny or error; timeout or dropped when it gave none; empty when it was not asked',
    shadow_rule LowCardinality(String) COMMENT 'the rule by which the candidate decided',
    shadow_reasons String CODEC(ZSTD(1)) COMMENT 'why, joined by `; `, or what went wrong',
    shadow_revision LowCardinality(String) COMMENT 'revision of the candidate',
    input String CODEC(ZSTD(1)) COMMENT 'the policy\'s input as JSON, masked; empty when it is not kept',
    masked String CODEC(ZSTD(1)) COMMENT 'paths of the input whose value was replaced, joined by `; `',
    erased String CODEC(ZSTD(1)) COMMENT 'paths of the input that were removed, joined by `; `',
    INDEX by_decision_id decision_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_request_id request_id TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree ORDER BY (toStartOfHour(timestamp), verdict, timestamp)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row a decision, as mixer made it; the authority where a log entry disagrees';

CREATE TABLE IF NOT EXISTS mesh.services_by_minute (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the minute',
    reporter LowCardinality(String) COMMENT 'which side\'s proxy reports: source, destination or waypoint',
    destination_service_host LowCardinality(String) COMMENT 'host of the service',
    destination_service_name LowCardinality(String) COMMENT 'short name of the service',
    destination_service_namespace LowCardinality(String) COMMENT 'namespace of the service',
    verdict LowCardinality(String) COMMENT 'allow, deny, error, bypassed (Envoy went on without an answer) or none',
    response_code UInt16 COMMENT 'HTTP status; 0 when none was sent',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'requests',
    denied SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, denied by policy',
    limited SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, over a limit',
    failed SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, with a status of 500 and more, or none',
    durations AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99, 0.999), UInt64) COMMENT 'microseconds, as a state of quantilesTDigest',
    request_bytes SimpleAggregateFunction(sum, UInt64) COMMENT 'bytes received on the wire',
    response_bytes SimpleAggregateFunction(sum, UInt64) COMMENT 'bytes sent on the wire'
) ENGINE = AggregatingMergeTree ORDER BY (minute, reporter, destination_service_host, destination_service_name, destination_service_namespace, verdict, response_code)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'How each service fares, by verdict and status';

CREATE TABLE IF NOT EXISTS mesh.edges_by_minute (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the minute',
    reporter LowCardinality(String) COMMENT 'which side\'s proxy reports: source, destination or waypoint',
    source_workload_name LowCardinality(String) COMMENT 'workload of the caller; from a SPIFFE name, its service account',
    source_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the caller',
    source_principal LowCardinality(String) COMMENT 'identity of the caller\'s certificate',
    destination_workload_name LowCardinality(String) COMMENT 'workload of the server; from a SPIFFE name, its service account',
    destination_workload_namespace LowCardinality(String) COMMENT 'namespace of the workload of the server',
    destination_service_name LowCardinality(String) COMMENT 'short name of the service',
    destination_service_namespace LowCardinality(String) COMMENT 'namespace of the service',
    connection_mtls Bool COMMENT 'both sides showed a certificate with a name downstream',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'requests',
    denied SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, denied by policy',
    limited SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, over a limit',
    failed SimpleAggregateFunction(sum, UInt64) COMMENT 'of them, with a status of 500 and more, or none',
    durations AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99, 0.999), UInt64) COMMENT 'microseconds, as a state of quantilesTDigest'
) ENGINE = AggregatingMergeTree ORDER BY (minute, reporter, source_workload_name, source_workload_namespace, source_principal, destination_workload_name, destination_workload_namespace, destination_service_name, destination_service_namespace, connection_mtls)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Who calls whom';

CREATE TABLE IF NOT EXISTS mesh.limits_by_minute (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the minute',
    limit_name LowCardinality(String) COMMENT 'the rate-limit rule that decided',
    limit_code LowCardinality(String) COMMENT 'OK or OVER_LIMIT; empty when none was asked',
    quota_name LowCardinality(String) COMMENT 'the attribute quota that decided, or had the least left',
    destination_service_name LowCardinality(String) COMMENT 'short name of the service',
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'requests that met it',
    least_remaining SimpleAggregateFunction(min, UInt32) COMMENT 'the least that was left of the limit; 4294967295 when it was never said'
) ENGINE = AggregatingMergeTree ORDER BY (minute, limit_name, limit_code, quota_name, destination_service_name)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'How rate limits and quotas bite';

CREATE TABLE IF NOT EXISTS mesh.policies_by_minute (
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the minute',
    decision LowCardinality(String) COMMENT 'path of the decision in the policy',
    rule LowCardinality(String) COMMENT 'the rule that decided, such as `data.envoy.authz.allow`',
    verdict LowCardinality(String) COMMENT 'allow, deny or error',
    policy_revision LowCardinality(String) COMMENT 'revision of the policy that decided',
    dry_run Bool COMMENT 'whether the verdict was only noted',
    shadow_verdict LowCardinality(String) COMMENT 'the candidate\'s: allow, deny or error; timeout or dropped when it gave none; empty when it was not asked',
    tier LowCardinality(String) COMMENT 'how the policy was evaluated',
    cache LowCardinality(String) COMMENT 'hit, miss or bypass of the decision cache',
    decisions SimpleAggregateFunction(sum, UInt64) COMMENT 'decisions',
    durations AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99, 0.999), Float64) COMMENT 'microseconds, as a state of quantilesTDigest'
) ENGINE = AggregatingMergeTree ORDER BY (minute, decision, rule, verdict, policy_revision, dry_run, shadow_verdict, tier, cache)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What policies decide, and a candidate beside them';

CREATE TABLE IF NOT EXISTS mesh.schema_history (
    at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was reached',
    schema String COMMENT 'version of tables, roll-ups and views together',
    mixer String COMMENT 'version of mixer-py that reached it',
    changes String COMMENT 'statements that changed tables, as JSON'
) ENGINE = MergeTree ORDER BY at
COMMENT 'Versions that this database has had';

DROP TABLE IF EXISTS mesh.request_decisions;

DROP TABLE IF EXISTS mesh.services_by_minute_mv;

DROP TABLE IF EXISTS mesh.edges_by_minute_mv;

DROP TABLE IF EXISTS mesh.limits_by_minute_mv;

DROP TABLE IF EXISTS mesh.policies_by_minute_mv;

CREATE VIEW IF NOT EXISTS mesh.request_decisions AS SELECT
    entry.timestamp AS timestamp,
    entry.request_id AS request_id,
    entry.decision_id AS decision_id,
    entry.verdict AS verdict,
    entry.decision AS decision,
    entry.policy_revision AS policy_revision,
    entry.rule AS rule,
    entry.reasons AS reasons,
    entry.quota_name AS quota_name,
    entry.quota_code AS quota_code,
    entry.quota_remaining AS quota_remaining,
    entry.limit_name AS limit_name,
    entry.limit_code AS limit_code,
    entry.limit_remaining AS limit_remaining,
    entry.reporter AS reporter,
    entry.context_reporter_uid AS context_reporter_uid,
    entry.context_protocol AS context_protocol,
    entry.protocol_version AS protocol_version,
    entry.source_ip AS source_ip,
    entry.source_port AS source_port,
    entry.origin_ip AS origin_ip,
    entry.source_principal AS source_principal,
    entry.source_namespace AS source_namespace,
    entry.source_workload_name AS source_workload_name,
    entry.source_workload_namespace AS source_workload_namespace,
    entry.source_canonical_service AS source_canonical_service,
    entry.source_canonical_revision AS source_canonical_revision,
    entry.source_app AS source_app,
    entry.source_version AS source_version,
    entry.source_cluster AS source_cluster,
    entry.source_name AS source_name,
    entry.source_owner AS source_owner,
    entry.source_workload_uid AS source_workload_uid,
    entry.destination_ip AS destination_ip,
    entry.destination_port AS destination_port,
    entry.destination_principal AS destination_principal,
    entry.destination_namespace AS destination_namespace,
    entry.destination_workload_name AS destination_workload_name,
    entry.destination_workload_namespace AS destination_workload_namespace,
    entry.destination_canonical_service AS destination_canonical_service,
    entry.destination_canonical_revision AS destination_canonical_revision,
    entry.destination_app AS destination_app,
    entry.destination_version AS destination_version,
    entry.destination_cluster AS destination_cluster,
    entry.destination_name AS destination_name,
    entry.destination_owner AS destination_owner,
    entry.destination_workload_uid AS destination_workload_uid,
    entry.destination_service_host AS destination_service_host,
    entry.destination_service_name AS destination_service_name,
    entry.destination_service_namespace AS destination_service_namespace,
    entry.request_method AS request_method,
    entry.request_scheme AS request_scheme,
    entry.request_host AS request_host,
    entry.request_url_path AS request_url_path,
    entry.request_query_params AS request_query_params,
    entry.request_headers AS request_headers,
    entry.request_referer AS request_referer,
    entry.request_useragent AS request_useragent,
    entry.request_auth_principal AS request_auth_principal,
    entry.request_auth_audiences AS request_auth_audiences,
    entry.request_auth_presenter AS request_auth_presenter,
    entry.request_size AS request_size,
    entry.request_total_size AS request_total_size,
    entry.request_headers_bytes AS request_headers_bytes,
    entry.response_code AS response_code,
    entry.response_code_details AS response_code_details,
    entry.response_flags AS response_flags,
    entry.response_grpc_status AS response_grpc_status,
    entry.response_grpc_message AS response_grpc_message,
    entry.response_headers AS response_headers,
    entry.response_trailers AS response_trailers,
    entry.response_size AS response_size,
    entry.response_total_size AS response_total_size,
    entry.response_headers_bytes AS response_headers_bytes,
    entry.response_duration AS response_duration,
    entry.time_to_last_rx_byte AS time_to_last_rx_byte,
    entry.time_to_first_upstream_tx_byte AS time_to_first_upstream_tx_byte,
    entry.time_to_last_upstream_tx_byte AS time_to_last_upstream_tx_byte,
    entry.time_to_first_upstream_rx_byte AS time_to_first_upstream_rx_byte,
    entry.time_to_last_upstream_rx_byte AS time_to_last_upstream_rx_byte,
    entry.time_to_first_downstream_tx_byte AS time_to_first_downstream_tx_byte,
    entry.time_to_last_downstream_tx_byte AS time_to_last_downstream_tx_byte,
    entry.request_messages AS request_messages,
    entry.response_messages AS response_messages,
    entry.connection_mtls AS connection_mtls,
    entry.connection_requested_server_name AS connection_requested_server_name,
    entry.connection_termination_details AS connection_termination_details,
    entry.upstream_cluster AS upstream_cluster,
    entry.upstream_transport_failure_reason AS upstream_transport_failure_reason,
    entry.upstream_ip AS upstream_ip,
    entry.upstream_request_attempt_count AS upstream_request_attempt_count,
    entry.upstream_wire_bytes_sent AS upstream_wire_bytes_sent,
    entry.upstream_wire_bytes_received AS upstream_wire_bytes_received,
    entry.downstream_transport_failure_reason AS downstream_transport_failure_reason,
    entry.tls_version AS tls_version,
    entry.api_service AS api_service,
    entry.api_version AS api_version,
    entry.api_operation AS api_operation,
    entry.api_protocol AS api_protocol,
    entry.custom_tags AS custom_tags,
    entry.route_name AS route_name,
    if(by_id.decision_id != '', by_id.timestamp, by_request.timestamp) AS decided_timestamp,
    if(by_id.decision_id != '', by_id.decision_id, by_request.decision_id) AS decided_decision_id,
    if(by_id.decision_id != '', by_id.verdict, by_request.verdict) AS decided_verdict,
    if(by_id.decision_id != '', by_id.decision, by_request.decision) AS decided_decision,
    if(by_id.decision_id != '', by_id.rule, by_request.rule) AS decided_rule,
    if(by_id.decision_id != '', by_id.reasons, by_request.reasons) AS decided_reasons,
    if(by_id.decision_id != '', by_id.error, by_request.error) AS decided_error,
    if(by_id.decision_id != '', by_id.policy_revision, by_request.policy_revision) AS decided_policy_revision,
    if(by_id.decision_id != '', by_id.http_status, by_request.http_status) AS decided_http_status,
    if(by_id.decision_id != '', by_id.quota_name, by_request.quota_name) AS decided_quota_name,
    if(by_id.decision_id != '', by_id.quota_code, by_request.quota_code) AS decided_quota_code,
    if(by_id.decision_id != '', by_id.quota_remaining, by_request.quota_remaining) AS decided_quota_remaining,
    if(by_id.decision_id != '', by_id.tier, by_request.tier) AS decided_tier,
    if(by_id.decision_id != '', by_id.cache, by_request.cache) AS decided_cache,
    if(by_id.decision_id != '', by_id.dry_run, by_request.dry_run) AS decided_dry_run,
    if(by_id.decision_id != '', by_id.duration_us, by_request.duration_us) AS decided_duration_us,
    multiIf(by_id.decision_id != '', 'decision_id', by_request.decision_id != '', 'request_id', '')
        AS joined_by,
    joined_by != '' AND (
        entry.decision_id != '' AND (entry.decision_id != decided_decision_id
            OR entry.policy_revision != decided_policy_revision
            OR empty(entry.rule) != empty(decided_rule) OR NOT startsWith(decided_rule, entry.rule))
        OR entry.verdict != 'none' AND entry.verdict != decided_verdict
            AND NOT (entry.verdict = 'bypassed' AND decided_verdict = 'error')
    ) AS disagrees
FROM mesh.requests AS entry
LEFT ANY JOIN (SELECT timestamp, decision_id, verdict, decision, rule, reasons, error, policy_revision, http_status, quota_name, quota_code, quota_remaining, tier, cache, dry_run, duration_us, request_id FROM mesh.decisions WHERE decision_id != '') AS by_id
    ON entry.decision_id = by_id.decision_id
LEFT ANY JOIN (SELECT timestamp, decision_id, verdict, decision, rule, reasons, error, policy_revision, http_status, quota_name, quota_code, quota_remaining, tier, cache, dry_run, duration_us, request_id FROM mesh.decisions WHERE request_id != ''
    ORDER BY timestamp DESC LIMIT 1 BY request_id) AS by_request
    ON entry.request_id = by_request.request_id;

CREATE MATERIALIZED VIEW IF NOT EXISTS mesh.services_by_minute_mv
TO mesh.services_by_minute AS SELECT
    toStartOfMinute(toDateTime(timestamp, 'UTC')) AS minute,
    reporter,
    destination_service_host,
    destination_service_name,
    destination_service_namespace,
    verdict,
    response_code,
    toUInt64(count()) AS requests,
    toUInt64(countIf(verdict = 'deny')) AS denied,
    toUInt64(countIf(limit_code = 'OVER_LIMIT')) AS limited,
    toUInt64(countIf(response_code >= 500 OR response_code = 0)) AS failed,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99, 0.999)(response_duration) AS durations,
    toUInt64(sum(request_total_size)) AS request_bytes,
    toUInt64(sum(response_total_size)) AS response_bytes
FROM mesh.requests
GROUP BY minute, reporter, destination_service_host, destination_service_name, destination_service_namespace, verdict, response_code;

CREATE MATERIALIZED VIEW IF NOT EXISTS mesh.edges_by_minute_mv
TO mesh.edges_by_minute AS SELECT
    toStartOfMinute(toDateTime(timestamp, 'UTC')) AS minute,
    reporter,
    source_workload_name,
    source_workload_namespace,
    source_principal,
    destination_workload_name,
    destination_workload_namespace,
    destination_service_name,
    destination_service_namespace,
    connection_mtls,
    toUInt64(count()) AS requests,
    toUInt64(countIf(verdict = 'deny')) AS denied,
    toUInt64(countIf(limit_code = 'OVER_LIMIT')) AS limited,
    toUInt64(countIf(response_code >= 500 OR response_code = 0)) AS failed,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99, 0.999)(response_duration) AS durations
FROM mesh.requests
GROUP BY minute, reporter, source_workload_name, source_workload_namespace, source_principal, destination_workload_name, destination_workload_namespace, destination_service_name, destination_service_namespace, connection_mtls;

CREATE MATERIALIZED VIEW IF NOT EXISTS mesh.limits_by_minute_mv
TO mesh.limits_by_minute AS SELECT
    toStartOfMinute(toDateTime(timestamp, 'UTC')) AS minute,
    limit_name,
    limit_code,
    quota_name,
    destination_service_name,
    toUInt64(count()) AS requests,
    toUInt32(min(ifNull(limit_remaining, 4294967295))) AS least_remaining
FROM mesh.requests
WHERE limit_name != '' OR quota_name != ''
GROUP BY minute, limit_name, limit_code, quota_name, destination_service_name;

CREATE MATERIALIZED VIEW IF NOT EXISTS mesh.policies_by_minute_mv
TO mesh.policies_by_minute AS SELECT
    toStartOfMinute(toDateTime(timestamp, 'UTC')) AS minute,
    decision,
    rule,
    verdict,
    policy_revision,
    dry_run,
    shadow_verdict,
    tier,
    cache,
    toUInt64(count()) AS decisions,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99, 0.999)(duration_us) AS durations
FROM mesh.decisions
GROUP BY minute, decision, rule, verdict, policy_revision, dry_run, shadow_verdict, tier, cache;

INSERT INTO mesh.schema_history (schema, mixer, changes) VALUES ('4725a5fa97d49376', '0.1.0', '[]');

INSERT INTO mesh.requests (timestamp, request_id, decision_id, verdict, rule, source_workload_name, destination_service_name, response_code, response_duration) VALUES
('2026-09-21 14:13:20.000000000', 'old-0', 'd-0', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:21.000000000', 'old-1', 'd-1', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:22.000000000', 'old-2', 'd-2', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:23.000000000', 'old-3', 'd-3', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:24.000000000', 'old-4', 'd-4', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:25.000000000', 'old-5', 'd-5', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:26.000000000', 'old-6', 'd-6', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:27.000000000', 'old-7', 'd-7', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:28.000000000', 'old-8', 'd-8', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500),
('2026-09-21 14:13:29.000000000', 'old-9', 'd-9', 'deny', 'data.envoy.authz.allow', 'web', 'reviews', 403, 1500);

INSERT INTO mesh.decisions (timestamp, request_id, decision_id, verdict, rule, duration_us) VALUES
('2026-09-21 14:13:20.000000000', 'old-0', 'd-0', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:21.000000000', 'old-1', 'd-1', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:22.000000000', 'old-2', 'd-2', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:23.000000000', 'old-3', 'd-3', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:24.000000000', 'old-4', 'd-4', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:25.000000000', 'old-5', 'd-5', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:26.000000000', 'old-6', 'd-6', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:27.000000000', 'old-7', 'd-7', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:28.000000000', 'old-8', 'd-8', 'deny', 'data.envoy.authz.allow', 12.5),
('2026-09-21 14:13:29.000000000', 'old-9', 'd-9', 'deny', 'data.envoy.authz.allow', 12.5);

INSERT INTO mesh.connections (timestamp, connection_id, connection_event, connection_sent_bytes, connection_mtls) VALUES
('2026-09-21 14:13:20.000000000', 'c-0', 'close', 100, 'true'),
('2026-09-21 14:13:21.000000000', 'c-1', 'close', 100, 'true'),
('2026-09-21 14:13:22.000000000', 'c-2', 'close', 100, 'true'),
('2026-09-21 14:13:23.000000000', 'c-3', 'close', 100, 'true'),
('2026-09-21 14:13:24.000000000', 'c-4', 'close', 100, 'true'),
('2026-09-21 14:13:25.000000000', 'c-5', 'close', 100, 'true'),
('2026-09-21 14:13:26.000000000', 'c-6', 'close', 100, 'true'),
('2026-09-21 14:13:27.000000000', 'c-7', 'close', 100, 'true'),
('2026-09-21 14:13:28.000000000', 'c-8', 'close', 100, 'true'),
('2026-09-21 14:13:29.000000000', 'c-9', 'close', 100, 'true');
