"""CEL over the vocabulary of attributes: compiled and checked for types when loaded, bounded in cost when evaluated.

docs/expressions.md says what can be written. Not for: what a value means, which is for the room that asks.
"""

from mixer_py.expressions.compiling import Expression, Reference, compile_expression
from mixer_py.expressions.faults import Place
from mixer_py.expressions.generation import Attributes
from mixer_py.expressions.scope import CHECK, VOCABULARY, Scope
from mixer_py.expressions.types import BOOL, DOUBLE, DURATION, INT, STRING, TIMESTAMP, Type

__all__ = [
    "BOOL",
    "CHECK",
    "DOUBLE",
    "DURATION",
    "INT",
    "STRING",
    "TIMESTAMP",
    "VOCABULARY",
    "Attributes",
    "Expression",
    "Place",
    "Reference",
    "Scope",
    "Type",
    "compile_expression",
]
