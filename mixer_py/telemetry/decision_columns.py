"""The columns of `decisions`: what mixer itself knows of each decision, in no Envoy's words.

Not for: what Envoy reports, and what is made from all columns (`columns.py`).
"""

from __future__ import annotations

from typing import Final

from mixer_py.telemetry.column import CODE, FLAG, INSTANT, LEFT, NAME, REAL, TEXT, Column, Recorded, TableOfColumns

DECISIONS: Final = TableOfColumns(
    name="decisions",
    meaning="One row a decision, as mixer made it; the authority where a log entry disagrees",
    columns=(
        Column("timestamp", INSTANT, "when it was decided", Recorded()),
        Column("decision_id", TEXT, "its id, also in Envoy's dynamic metadata", Recorded()),
        Column("request_id", TEXT, "x-request-id of the request", Recorded('request.headers["x-request-id"]')),
        Column("verdict", NAME, "allow, deny or error", Recorded()),
        Column("decision", NAME, "path of the decision in the policy", Recorded("`policy.decision`")),
        Column("rule", NAME, "the rule that decided, such as `data.envoy.authz.allow`",
               Recorded("`policy.decision`, or that of `policy.decisions`")),
        Column("reasons", TEXT, "why, joined by `; `", Recorded("the result's `reasons`")),
        Column("error", TEXT, "what went wrong when the verdict is error", Recorded()),
        Column("policy_revision", NAME, "revision of the policy that decided", Recorded()),
        Column("bundle_revision", NAME, "revision of its bundle; of several, `bundle=revision` joined by `; `",
               Recorded("`revision` in the bundle's manifest")),
        Column("http_status", CODE, "status that the caller gets from a denial; 0 when allowed", Recorded()),
        Column("quota_name", NAME, "the attribute quota that decided, or had the least left", Recorded()),
        Column("quota_code", NAME, "OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged",
               Recorded()),
        Column("quota_remaining", LEFT, "what was left of that quota", Recorded()),
        Column("source_ip", TEXT, "address of the caller", Recorded("`attributes.source.address`")),
        Column("source_principal", NAME, "identity of the caller", Recorded("`attributes.source.principal`")),
        Column("source_namespace", NAME, "its namespace", Recorded("`/ns/` of source_principal")),
        Column("destination_ip", TEXT, "address of the server", Recorded("`attributes.destination.address`")),
        Column("destination_principal", NAME, "identity of the server",
               Recorded("`attributes.destination.principal`")),
        Column("destination_namespace", NAME, "its namespace", Recorded("`/ns/` of destination_principal")),
        Column("request_method", NAME, "method", Recorded("`attributes.request.http.method`")),
        Column("request_host", TEXT, "authority or Host header", Recorded("`attributes.request.http.host`")),
        Column("request_url_path", TEXT, "path without query", Recorded("`attributes.request.http.path` up to `?`")),
        Column("tier", NAME, "how the policy was evaluated", Recorded()),
        Column("cache", NAME, "hit, miss or bypass of the decision cache", Recorded()),
        Column("dry_run", FLAG, "whether the verdict was only noted", Recorded("`policy.dry_run`")),
        Column("duration_us", REAL, "microseconds that the decision took", Recorded()),
        Column("shadow_verdict", NAME, "the candidate's: allow, deny or error; timeout or dropped when it gave none; "
               "empty when it was not asked", Recorded("`policy.shadow`")),
        Column("shadow_rule", NAME, "the rule by which the candidate decided", Recorded("`policy.shadow.decision`")),
        Column("shadow_reasons", TEXT, "why, joined by `; `, or what went wrong", Recorded("its result's `reasons`")),
        Column("shadow_revision", NAME, "revision of the candidate", Recorded()),
        Column("input", TEXT, "the policy's input as JSON, masked; empty when it is not kept",
               Recorded("the CheckRequest, as the policy saw it")),
        Column("reads", NAME, "references of the input that can change the decision, joined by `; `; `input` where any "
               "can, or more than 100", Recorded("the policy, as it was analysed when it was loaded")),
        Column("masked", TEXT, "paths of the input whose value was replaced, joined by `; `",
               Recorded("`decision_log.mask` and `system.log.mask`")),
        Column("erased", TEXT, "paths of the input that were removed, joined by `; `",
               Recorded("`system.log.mask` and `decision_log.max_input`")),
    ),
    order_by="(toStartOfHour(timestamp), verdict, timestamp)",
    indexed=("decision_id", "request_id"),
)  # fmt: skip
