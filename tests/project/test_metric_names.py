"""The metrics that operators read about are those that exist, with their labels."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PRIVATE = {"mixer_heartbeat", "mixer_evaluations", "mixer_loading", "mixer_loop_thread", "mixer_gathered_rows"}
"""Between the processes, and not on /metrics."""
_MAKERS = {"counter", "gauge", "histogram"}


def constants(tree: ast.Module) -> dict[str, str]:
    """Names that a module gives to texts."""
    found = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = node.value if targets and isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return found


def text_of(node: ast.expr, known: dict[str, str]) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return known.get(node.id) if isinstance(node, ast.Name) else None


def label_names(call: ast.Call) -> set[str] | None:
    """The label names that a call declares; None when it does not spell them out."""
    keyword = {word.arg: word.value for word in call.keywords}.get("labels")
    node = keyword if keyword is not None else call.args[2] if len(call.args) > 2 else None
    if node is None:
        return set()
    if not isinstance(node, ast.Tuple | ast.List):
        return None
    return {element.value for element in node.elts if isinstance(element, ast.Constant)}


def declared() -> dict[str, set[str]]:
    """Every metric of mixer's own in the code, with its labels where they are spelt out."""
    found: dict[str, set[str]] = {}
    for module in (ROOT / "mixer_py").rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        known = constants(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            maker = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = text_of(node.args[0], known)
            if name and name.startswith("mixer_") and (maker in _MAKERS or maker.endswith("MetricFamily")):
                found.setdefault(name, set()).update(label_names(node) or ())
    return {name: labels for name, labels in found.items() if name not in _PRIVATE}


def documented() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mixer_\w+)` \| ([\w, ]*) \|", text, flags=re.MULTILINE)
    return {name: set(labels.split(", ")) for name, labels in rows}


def test_every_metric_is_documented_with_its_labels() -> None:
    in_code, in_docs = declared(), documented()
    assert in_docs.keys() == in_code.keys()
    spelt_out = {name: labels for name, labels in in_code.items() if labels}
    assert {name: in_docs[name] for name in spelt_out} == spelt_out
