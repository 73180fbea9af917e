"""New engines, and modules made ready for them. Nothing is compiled or evaluated here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
import regorus

from mixer_py.policy.bundles.reading import Module
from mixer_py.policy.engines.panics import guarded
from mixer_py.policy.rego.calls import Functions
from mixer_py.policy.rego.outputs import assign_outputs, may_have_outputs

_NO_LIMIT: Final = 2**31


def new_engine() -> Any:  # noqa: ANN401 (regorus has no types)
    """An empty engine that takes modules of any length, and lines: a key set may stand in one line of policy."""
    engine = regorus.Engine()
    engine.set_policy_length_config(max_col=_NO_LIMIT, max_file_bytes=_NO_LIMIT, max_lines=_NO_LIMIT)
    return engine


def ready_modules(modules: Sequence[Module]) -> Sequence[Module]:
    """Modules in which no builtin in Python takes its result as an argument, which the engine would not know.

    What cannot be parsed is left as it is: the engine will say what is wrong with it.
    """
    if not any(may_have_outputs(module.text) for module in modules):
        return modules
    parser = new_engine()
    try:
        for module in modules:
            guarded(parser.add_policy, module.file, module.text)
    except RuntimeError:
        return modules
    trees: list[Any] = orjson.loads(parser.get_ast_as_json())
    functions = Functions(trees)
    return [Module(module.file, assign_outputs(tree, functions)) for module, tree in zip(modules, trees, strict=True)]
