"""Modules made ready for the engines. Nothing is compiled or evaluated here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from mixer_py.policy.bundles.reading import Module
from mixer_py.policy.rego.calls import Functions
from mixer_py.policy.rego.heads import may_have_dots, put_in_brackets
from mixer_py.policy.rego.negations import Negations, may_negate
from mixer_py.policy.rego.outputs import assign_outputs, may_have_outputs
from mixer_py.policy.rego.panics import guarded
from mixer_py.policy.rego.parser import new_engine


def ready_modules(modules: Sequence[Module]) -> Sequence[Module]:
    """Modules that mean to the engine what they mean to OPA; see `rego.heads`, `rego.outputs` and `rego.negations`.

    What cannot be parsed is left as it is: the engine will say what is wrong with it.
    """
    if any(may_have_dots(module.text) for module in modules):
        modules = _rewrite(modules, put_in_brackets)
    if any(may_have_outputs(module.text) for module in modules):
        modules = _rewrite(modules, _assign_outputs)
    if any(may_negate(module.text) for module in modules):
        modules = _rewrite(modules, _take_out_of_negations)
    return modules


def _assign_outputs(trees: Sequence[Any]) -> list[str]:
    functions = Functions(trees)
    return [assign_outputs(tree, functions) for tree in trees]


def _take_out_of_negations(trees: Sequence[Any]) -> list[str]:
    return list(map(Negations(trees).take_out, trees))


def _rewrite(modules: Sequence[Module], rewrite: Callable[[Sequence[Any]], list[str]]) -> Sequence[Module]:
    parser = new_engine()
    try:
        for module in modules:
            guarded(parser.add_policy, module.file, module.text)
    except RuntimeError:
        return modules
    texts = rewrite(orjson.loads(parser.get_ast_as_json()))
    return [Module(module.file, text) for module, text in zip(modules, texts, strict=True)]
