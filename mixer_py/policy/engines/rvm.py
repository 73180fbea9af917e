"""The engine's virtual machine: programs compiled once from rules written anew, over one copy of the data they read.

Facts that shape it: it knows no function in Python; it stops after 25,000 instructions; loading another program keeps
its data and costs microseconds; compiling a recursion ends the process, so none may get here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import regorus

from mixer_py.errors import EvaluationError, RequestParseError
from mixer_py.policy.builtins.corrected import EXTENSIONS
from mixer_py.policy.rego.faults import engine_fault, error_text
from mixer_py.policy.rego.panics import PanicError, guarded
from mixer_py.policy.rego.rewriting import Written, write_decisions

_FILE: Final = "mixer/machine.rego"
_LIMIT: Final = "maximum instruction limit"

INSTRUCTION_LIMIT: Final = "instruction_limit"
MACHINE_ERROR: Final = "machine_error"


class MachineStoppedError(Exception):
    """The machine did not finish, and says nothing about the decision.

    Attributes:
        reason: `instruction_limit`, which rules written anew run into on purpose too, or `machine_error`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Machine:
    """Evaluates those decisions that can be written anew. Belongs to the thread that made it.

    Attributes:
        kept_off: by decision, why the machine does not evaluate it.
    """

    __slots__ = ("_loaded", "_programs", "_vm", "kept_off")

    def __init__(
        self, trees: Sequence[Any], decisions: Sequence[str], read_data: Callable[[Sequence[str]], str]
    ) -> None:
        """Compile the decisions.

        Args:
            trees: the syntax trees of the modules as the engine compiles them.
            decisions: paths of rules.
            read_data: gives the base document as JSON, as far as it is below these names.
        """
        self._programs: dict[str, tuple[Any, str]] = {}
        self.kept_off: dict[str, str] = {}
        data = self._compile(trees, decisions)
        self._loaded: Any = None
        self._vm: Any = None
        if self._programs:
            self._vm = regorus.Rvm()
            self._load(next(iter(self._programs.values()))[0])
            self._vm.set_data_json(read_data(sorted(data)))

    def _compile(self, trees: Sequence[Any], decisions: Sequence[str]) -> set[str]:
        """Compile all together, and each alone when that is refused; gives the names of data that they read."""
        written = write_decisions(trees, decisions, EXTENSIONS.__contains__)
        self.kept_off.update(written.kept_off)
        rest = list(written.entry_points)
        if not rest:
            return set()
        why = self._take(written)
        if why is None:
            return set(written.data)
        if len(rest) == 1:
            self.kept_off[rest[0]] = why
            return set()
        data: set[str] = set()
        for decision in rest:
            alone = write_decisions(trees, [decision], EXTENSIONS.__contains__)
            refusal = self._take(alone)
            if refusal is None:
                data |= alone.data
            else:
                self.kept_off[decision] = refusal
        return data

    def _take(self, written: Written) -> str | None:
        """Compile and keep a program; gives why it was refused."""
        entry_points = list(written.entry_points.values())
        modules = [(f"{_FILE}#{index}", text) for index, text in enumerate(written.modules)]
        try:
            program = guarded(regorus.Program.compile_from_modules, "{}", modules, entry_points)
        except RuntimeError as error:
            return f"the engine's virtual machine refuses it: {engine_fault(error).message.splitlines()[0]}"
        for decision, entry_point in written.entry_points.items():
            self._programs[decision] = (program, entry_point)
        return None

    def _load(self, program: Any) -> None:  # noqa: ANN401 (regorus has no types)
        self._vm.load_program(program)
        self._loaded = program

    def has(self, decision: str) -> bool:
        """Whether a decision is evaluated here."""
        return decision in self._programs

    def evaluate(self, decision: str, input_json: str) -> str:
        """The decision's value in an array, as JSON; `"<undefined>"` for none.

        Raises:
            RequestParseError: the input document cannot be read.
            MachineStoppedError: the machine has nothing to say, the interpreter has.
            EvaluationError: the machine panicked.
        """
        program, entry_point = self._programs[decision]
        if program is not self._loaded:
            self._load(program)
        try:
            self._vm.set_input_json(input_json)
        except RuntimeError as error:
            raise RequestParseError(f"the engine cannot read the request: {error_text(error)}") from None
        try:
            text: str = guarded(self._vm.execute_entry_point, entry_point)
        except PanicError as error:
            self._loaded = None  # its program is loaded again, with which a machine forgets what it was at
            raise EvaluationError(f"the engine panicked: {error_text(error)}") from None
        except RuntimeError as error:
            raise MachineStoppedError(INSTRUCTION_LIMIT if _LIMIT in str(error) else MACHINE_ERROR) from None
        return text
