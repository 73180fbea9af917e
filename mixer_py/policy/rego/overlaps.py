"""Find rules whose place a data document already takes.

OPA refuses such bundles; the embedded engine would let the document win in silence, over a deny as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixer_py.errors import Fault
from mixer_py.policy.rego.trees import ref_path


def check_overlaps(trees: Sequence[Any], data: Mapping[str, object]) -> list[Fault]:
    """A fault for every rule at whose path `data` holds something.

    Args:
        trees: the modules' syntax trees.
        data: the base document.
    """
    return [
        Fault(f"the rule {'.'.join(('data', *path))} is also set by a data document", tree["source"]["file"], line)
        for tree in trees
        for path, line in _rule_paths(tree["ast"])
        if _exists(data, path)
    ]


def package_paths(trees: Sequence[Any]) -> set[tuple[str, ...]]:
    """Where, below `data`, the modules' rules can stand.

    Args:
        trees: the modules' syntax trees.
    """
    return {ref_path(tree["ast"]["package"]["refr"]) or () for tree in trees}


def _rule_paths(module: Any) -> Iterator[tuple[tuple[str, ...], int]]:  # noqa: ANN401 (JSON)
    """Path, without `data`, and line of each rule, as far as it is constant."""
    package = ref_path(module["package"]["refr"]) or ()
    for rule in module["rules"]:
        ((_, content),) = rule.items()
        head = next(iter(content["head"].values())) if "head" in content else content
        node = head["refr"]
        while (path := ref_path(node)) is None:
            ((_, inner),) = node.items()
            node = inner["refr"]
        yield (*package, *path), content["span"]["line"]


def _exists(data: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True
