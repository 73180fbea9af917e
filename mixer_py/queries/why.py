"""The story of a request, by its request id or by the id of a decision: what Envoy reported, what mixer decided.

A request id may stand for several requests: one for each proxy that it passed, or each time that a client sent it.
Not for: how it looks (`cli/why.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mixer_py.queries.flags import meanings
from mixer_py.telemetry.ddl import literal

MOST: Final = 50
"""Requests, and decisions, of one id that are told."""
LONGEST_ID: Final = 512

Row = Mapping[str, Any]
Ask = Callable[[str], Sequence[Row]]
"""Answers one SELECT with its rows."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One request as Envoy reported it, with the decision behind it; one of the two may be missing.

    Attributes:
        request: row of `requests`; None for a decision whose log entry has not come, or never will.
        decision: row of `decisions`; None when there is none.
        joined_by: `decision_id`, or `request_id` where the entry names no decision that is known; empty without both.
        disagreements: what the entry says otherwise than the decision.
    """

    request: Row | None
    decision: Row | None
    joined_by: str = ""
    disagreements: tuple[str, ...] = ()


def find(identifier: str, ask: Ask) -> list[Chapter]:
    """Everything that is known under an id, oldest first; nothing when it is unknown."""
    wanted = literal(identifier[:LONGEST_ID])
    requests = ask(
        f"SELECT * FROM requests WHERE request_id = {wanted} OR decision_id = {wanted} "  # noqa: S608 (a literal)
        f"ORDER BY timestamp LIMIT {MOST}"
    )
    ids = {str(row[name]) for row in requests for name in ("decision_id", "request_id")} | {identifier[:LONGEST_ID]}
    known = ", ".join(literal(one) for one in sorted(ids - {""}))
    decisions = ask(
        f"SELECT * FROM decisions WHERE decision_id IN ({known}) OR request_id IN ({known}) "  # noqa: S608 (literals)
        f"ORDER BY timestamp LIMIT {MOST}"
    )
    chapters = [_chapter(request, decisions) for request in requests]
    told = {id(chapter.decision) for chapter in chapters}
    chapters += [Chapter(None, decision) for decision in decisions if id(decision) not in told]
    return sorted(chapters, key=lambda chapter: str((chapter.request or chapter.decision or {}).get("timestamp")))


def _chapter(request: Row, decisions: Sequence[Row]) -> Chapter:
    by_id = [one for one in decisions if one["decision_id"] and one["decision_id"] == request["decision_id"]]
    by_request = [one for one in decisions if one["request_id"] and one["request_id"] == request["request_id"]]
    decision = by_id[0] if by_id else by_request[-1] if by_request else None
    if decision is None:
        return Chapter(request, None)
    return Chapter(request, decision, "decision_id" if by_id else "request_id", disagreements(request, decision))


def disagreements(request: Row, decision: Row) -> tuple[str, ...]:
    """Names of the columns of a log entry that say otherwise than the decision behind it.

    The rule is that of the view `request_decisions` (`telemetry/ddl.py`): an entry without a verdict says nothing, one
    that Envoy let through agrees with an error, and an entry's rule may be cut short.
    """
    found = []
    if request["decision_id"]:
        if request["decision_id"] != decision["decision_id"]:
            found.append("decision_id")
        if request["policy_revision"] != decision["policy_revision"]:
            found.append("policy_revision")
        if bool(request["rule"]) != bool(decision["rule"]) or not str(decision["rule"]).startswith(request["rule"]):
            found.append("rule")
    verdicts = (request["verdict"], decision["verdict"])
    if request["verdict"] not in {"none", decision["verdict"]} and verdicts != ("bypassed", "error"):
        found.append("verdict")
    return tuple(found)


def document(identifier: str, chapters: Sequence[Chapter]) -> dict[str, Any]:
    """The story as one JSON object."""
    return {
        "id": identifier,
        "found": bool(chapters),
        "requests": [
            {
                "request": chapter.request,
                "decision": chapter.decision,
                "joined_by": chapter.joined_by,
                "disagreements": list(chapter.disagreements),
                "response_flags": meanings(str((chapter.request or {}).get("response_flags", ""))),
            }
            for chapter in chapters
        ],
    }
