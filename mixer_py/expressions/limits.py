"""How much an expression may be and cost. The first four, and a pattern's size, are held when it is compiled."""

from __future__ import annotations

from typing import Final

TEXT: Final = 16_384
"""Characters of a text."""
NESTING: Final = 50
"""Levels of parentheses, operators, calls, lists and maps within one another."""
PARTS: Final = 4_096
"""Names, literals and signs of a text."""
BLOCKS: Final = 16
"""Levels of macros, and of `&&` and `||` in turn, within one another; a macro within a macro counts twice. Python
compiles 20 nested blocks at most."""
STEPS: Final = 100_000
"""What loops may cost in one evaluation: one for each operator, call, name and literal of a loop's body each time it
runs, and one for each `STEP_CHARACTERS` or each element that a function looks at there."""
STEP_CHARACTERS: Final = 64
"""A power of two."""
CHARACTERS: Final = 1_048_576
"""Characters of a text that `replace` or `join` makes."""
PATTERN_SIZE: Final = 1_000
"""Instructions of RE2 that a pattern comes to."""
PATTERN_CHARACTERS: Final = 16
"""Characters that a pattern of one instruction is held against in one step, and no search may take more than `STEPS`.
RE2's worst patterns need each instruction for each character, some 25 ns apiece."""
PATTERN_MEMORY: Final = 8_388_608
"""Bytes that RE2 may use for one pattern, compiled and while it matches; its own default."""
