"""Tell the story of a request: who asked whom, what was decided and why, which limits it met, and what became of it.

ID is a request id (x-request-id) or a decision id. A request id may stand for several requests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixer_py.cli.options import add_configuration, add_format, load_configuration
from mixer_py.cli.output import print_json, print_line, printable
from mixer_py.cli.rows import rows_of
from mixer_py.policy.reference import join
from mixer_py.telemetry.json_places import segments_of

if TYPE_CHECKING:
    from mixer_py.queries.why import Chapter, Row

EXAMPLES = (
    "mixer why 8a7d7a4e-0d1c-9d0e-8b7c-0c5d3c1f2a10",
    "mixer why -c mixer.yaml --format json 6f1c2a7e-5b1d-4a59-9c3e-000000000001",
)
_NOTHING = "nothing is known of {}: Envoy reports a request when it has ended, and rows are written once a second"
_STORED = {
    "header": "request_headers", "query": "request_query_params", "claim": "request_auth_claims",
    "response": "response_headers", "trailer": "response_trailers",
}  # fmt: skip
"""Columns of what clients and services send that are stored only as configured."""
_TIMES = (
    ("", "time_to_last_rx_byte", "the request had come"),
    ("time_to_first_upstream_tx_byte", "time_to_last_upstream_tx_byte", "it was sent upstream"),
    ("time_to_first_upstream_rx_byte", "time_to_last_upstream_rx_byte", "the response came from upstream"),
    ("time_to_first_downstream_tx_byte", "time_to_last_downstream_tx_byte", "the response was sent"),
)
"""Columns of the chain of times: the first and the last byte, and of what."""
_READ_LINES = 25
"""Places of the input that a person is shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("id", metavar="ID", help="request id or decision id")
    add_configuration(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Asks for the rows of an id, and tells what they say; 1 when there are none."""
    from mixer_py.queries.why import document, find  # noqa: PLC0415 (imports Arrow, which `--help` does without)

    configuration = load_configuration(arguments)
    chapters = find(arguments.id, lambda sql: [json.loads(line) for line in rows_of(configuration, sql)])
    if arguments.format == "json":
        print_json(document(arguments.id, chapters))
    elif not chapters:
        print_line(printable(_NOTHING.format(arguments.id)))
    for number, chapter in enumerate(chapters if arguments.format != "json" else ()):
        if number:
            print_line("")
        for kind, text in story(chapter):
            print_line(f"{kind:<12} {printable(text)}".rstrip())
    return 0 if chapters else 1


def story(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """The lines of one request, each with what it is about."""
    request, decision = chapter.request, chapter.decision
    said = request or decision or {}
    yield "request", _words(said, "{request_id}  {timestamp} UTC")
    method, host, path = (said.get(name) or "" for name in ("request_method", "request_host", "request_url_path"))
    yield "", f"{method} {host}{path}".strip()
    yield from _parties(request, decision)
    yield from _verdict(request, decision)
    if request is not None:
        yield from _limits(request)
        yield from _sent(request)
        yield from _outcome(request)
    else:
        yield "outcome", "no log entry has come: the request has not ended, or Envoy lost the entry"
    if decision is not None:
        yield from _decision(decision)
    for name in chapter.disagreements:
        yield (
            "disagrees",
            (f"{name}: the log entry says {(request or {}).get(name)!r}, mixer decided {(decision or {}).get(name)!r}"),
        )
    if request is not None and decision is None and request.get("decision_id"):
        yield "disagrees", f"the log entry names the decision {request['decision_id']}, of which nothing is known here"


def _parties(request: Row | None, decision: Row | None) -> Iterator[tuple[str, str]]:
    """Who called whom."""
    if request is not None:
        source = _first(request, "source_workload_name", "source_principal", "source_ip")
        target = _first(request, "destination_service_host", "destination_service_name", "destination_ip")
        yield "who", f"{source} → {target}, told by the {request['reporter']} ({request['context_reporter_uid']})"
    principals = [(decision or request or {}).get(f"{side}_principal") or "" for side in ("source", "destination")]
    if any(principals):
        yield "", f"certificates: {principals[0] or 'none'} → {principals[1] or 'none'}"


def _verdict(request: Row | None, decision: Row | None) -> Iterator[tuple[str, str]]:
    """The verdict and the rule; the decision is the authority, where there is one."""
    told = decision or request or {}
    verdict = str(told.get("verdict"))
    if decision is not None and decision["dry_run"]:
        verdict += " (dry run: only noted)"
    if request is not None and request["verdict"] == "bypassed":
        verdict = "bypassed: Envoy had no answer and let it through (failure_mode_allow)"
    rule = told.get("rule") or ""
    yield "verdict", verdict + (f", by {rule}" if rule else "")
    for reason in str(told.get("reasons") or "").split("; "):
        if reason:
            yield "why", reason
    if decision is not None and decision["error"]:
        yield "error", str(decision["error"])


def _sent(request: Row) -> Iterator[tuple[str, str]]:
    """What is stored of headers, query and token, and what a dry run of RBAC says."""
    for kind, column in _STORED.items():
        for number, (name, value) in enumerate(sorted(request[column].items())):
            yield "" if number else kind, f"{name}: {value}"
    if request["rbac_permissive_response_code"]:
        policy = request["rbac_permissive_effective_policy_id"]
        yield "dry run", f"RBAC: {request['rbac_permissive_response_code']}{f', by {policy}' if policy else ''}"


def _limits(request: Row) -> Iterator[tuple[str, str]]:
    """Which limits, with how much left."""
    for kind, name, code, left in (
        ("quota", "quota_name", "quota_code", "quota_remaining"),
        ("limit", "limit_name", "limit_code", "limit_remaining"),
    ):
        if request.get(name):
            remaining = request.get(left)
            yield (
                kind,
                ", ".join(
                    part
                    for part in (
                        str(request[name]),
                        str(request.get(code) or ""),
                        f"{remaining} left" if remaining is not None else "",
                    )
                    if part
                ),
            )


def _outcome(request: Row) -> Iterator[tuple[str, str]]:
    """What became of it."""
    from mixer_py.queries.flags import meanings  # noqa: PLC0415 (needed for requests only)

    details = f", {request['response_code_details']}" if request["response_code_details"] else ""
    yield "outcome", f"{request['response_code'] or 'no response'}{details}"
    for flag, meaning in meanings(str(request["response_flags"])).items():
        yield "flag", f"{flag}: {meaning}" if meaning else flag
    if request["response_grpc_status"]:
        yield "grpc", _words(request, "status {response_grpc_status} {response_grpc_message}")
    yield "took", f"{int(request['response_duration']) / 1000:.1f} ms from the first byte received to the last one sent"
    for first, last, what in _TIMES:
        times = [int(request[name]) / 1000 for name in (first, last) if name and request[name] is not None]
        if times:
            yield "", f"{' to '.join(dict.fromkeys(f'{one:.1f}' for one in times))} ms: {what}"
    upstream = request["upstream_cluster"] or "none was asked"
    failure = request["upstream_transport_failure_reason"]
    yield "upstream", f"{upstream}{f': {failure}' if failure else ''}"


def _decision(decision: Row) -> Iterator[tuple[str, str]]:
    """How it was decided, what the policy was given, and what a candidate says."""
    yield "decision", _words(decision, "{decision_id}  {decision}")
    yield "", _words(decision, "revision {policy_revision}, tier {tier}, cache {cache}, {duration_us:.0f} µs")
    if decision["shadow_verdict"]:
        revision, rule = decision["shadow_revision"], decision["shadow_rule"]
        by = f", by {rule}" if rule else ""
        yield "candidate", f"{decision['shadow_verdict']}{by} (revision {revision})"
        if decision["shadow_reasons"]:
            yield "", str(decision["shadow_reasons"])
    yield from _given(decision)


def _given(decision: Row) -> Iterator[tuple[str, str]]:
    """What of its input could change the decision, be it there or not; else all of the input."""
    places = list(_places(_parsed(decision["input"])))
    reads = [one for one in str(decision["reads"]).split("; ") if one]
    if not places:
        lines = [("reads", one) for one in reads]
    elif reads == ["input"] or not reads:
        lines = [("input", f"{place}: {value}") for place, value in places]
    else:
        erased = [join("input", segments_of(path)) for path in str(decision["erased"]).split("; ") if path]
        lines = [("read", line) for one in reads for line in _read(one, places, erased)]
    for number, (kind, line) in enumerate(lines[:_READ_LINES]):
        yield "" if number else kind, line
    if len(lines) > _READ_LINES:
        yield "", f"… {len(lines) - _READ_LINES} more, which --format json tells"


def _read(reference: str, places: Sequence[tuple[str, str]], erased: Sequence[str]) -> Iterator[str]:
    """The values at and below a reference of the input."""
    found = [f"{place}: {value}" for place, value in places if _holds(reference, place)]
    if not found:
        left_out = any(_holds(reference, path) or _holds(path, reference) for path in erased)
        found = [f"{reference}: {'left out here (see erased)' if left_out else 'not there'}"]
    yield from found


def _holds(reference: str, place: str) -> bool:
    """Whether a place is what a reference names, or within it."""
    return place.startswith(reference) and place[len(reference) :][:1] in {"", ".", "["}


def _places(value: object, path: str = "input") -> Iterator[tuple[str, str]]:
    """The reference of every value of a document, and the value."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _places(below, join(path, (str(name),)))
    elif isinstance(value, list) and value:
        for index, below in enumerate(value):
            yield from _places(below, f"{path}[{index}]")
    elif value is not None and value not in ({}, []):
        yield path, json.dumps(value, ensure_ascii=False)


def _parsed(text: object) -> object:
    if not text:
        return None
    try:
        return json.loads(str(text))
    except ValueError:
        return str(text)


def _first(row: Row, *names: str) -> str:
    found: Sequence[str] = [str(row[name]) for name in names if row.get(name)]
    return found[0] if found else "unknown"


def _words(row: Mapping[str, Any], pattern: str) -> str:
    return pattern.format_map(row).strip()
