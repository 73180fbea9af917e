"""The embedded engine in its tiers: the virtual machine for what it answers as OPA does, the interpreter for the rest.

The interpreter stands behind the machine as well: a call that the machine does not finish is repeated there, counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mixer_py.errors import UndefinedDecisionError
from mixer_py.instruments import Counter, Family, Registry
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.engines.interpreter import Interpreter
from mixer_py.policy.engines.protocol import Evaluation, EvaluationWatch
from mixer_py.policy.engines.rvm import Machine, MachineStoppedError
from mixer_py.policy.rego.reads import ReadAnalysis, Reads

RVM: Final = "rvm"
INTERPRETER: Final = "interpreter"

_UNDEFINED: Final = '"<undefined>"'
_LONGEST_REST: Final = 1024


@dataclass(slots=True)
class _Rest:
    """For how many calls a decision that the machine stopped at is not tried there: twice as many each time in a row.

    So a policy of thousands of rules, which it stops at every time, is not evaluated twice for ever.
    """

    length: int = 0
    left: int = 0

    def goes_on(self) -> bool:
        """Whether this call is one of them."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def lengthen(self) -> None:
        """The machine has stopped; once is no reason to rest."""
        self.left = min(self.length, _LONGEST_REST)
        self.length = 2 * self.left or 1


def _count(repeated: Family[Counter], reason: str) -> None:
    repeated.labels(reason).add()


class EmbeddedEngine:
    """Evaluates decisions in this process. Use it only from the thread that made it.

    Attributes:
        tier: of the first decision, when nothing stands in its way; see `tier_of`.
    """

    def __init__(
        self, bundle: Bundle, decisions: Sequence[str], watch: EvaluationWatch, registry: Registry | None = None
    ) -> None:
        """Parse and prepare the bundle's modules, and compile each decision once.

        Args:
            bundle: modules and data.
            decisions: paths of the rules that will be evaluated.
            watch: told of every evaluation.
            registry: counts evaluations that were repeated; None counts where nobody looks.

        Raises:
            PolicyLoadError: a module cannot be parsed or compiled, or calls what the engine lacks.
        """
        repeated = (registry or Registry()).counter(
            "mixer_evaluations_repeated_total",
            "Evaluations repeated in the interpreter, or in the one where a builtin's error is undefined.",
            ("reason",),
        )
        self._count = partial(_count, repeated)  # no method: in a circle, the collector's thread would free the engines
        self._watch = watch
        self._interpreter = Interpreter(bundle, decisions, self._count)
        trees = self._interpreter.trees
        analysis = ReadAnalysis(trees)
        self._reads = {decision: analysis.reads(decision) for decision in decisions}
        self._machine = Machine(trees, decisions, self._interpreter.read_data)
        self._rests = {decision: _Rest() for decision in decisions if self._machine.has(decision)}
        self.tier = self.tier_of(decisions[0]) if decisions else INTERPRETER

    def tier_of(self, decision: str) -> str:
        """See `Engine.tier_of`."""
        return RVM if self._machine.has(decision) else INTERPRETER

    def reads(self, decision: str) -> Reads:
        """See `Engine.reads`."""
        return self._reads[decision]

    def open(self) -> None:
        """See `Engine.open`: it does nothing else."""

    async def close(self) -> None:
        """See `Engine.close`: it holds nothing that does not go with it."""

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            "packages": self._interpreter.packages(),
            "builtin_errors": "undefined" if self._interpreter.tolerates else "failure",
            "tiers": {
                decision: {"tier": self.tier_of(decision), "why": self._machine.kept_off.get(decision, "")}
                for decision in self._reads
            },
        }

    async def evaluate(self, decision: str, input_json: str) -> Evaluation:
        """See `Engine.evaluate`."""
        self._watch.begin()
        try:
            text, tier = self._evaluate(decision, input_json)
        finally:
            self._watch.end()
        if text == _UNDEFINED:
            raise UndefinedDecisionError("the decision is undefined for this request")
        return Evaluation(text, tier)

    def _evaluate(self, decision: str, input_json: str) -> tuple[str, str]:
        """Text and tier."""
        rest = self._rests.get(decision)
        if rest is not None and not rest.goes_on():
            try:
                text = self._machine.evaluate(decision, input_json)
            except MachineStoppedError as error:
                self._count(error.reason)
                rest.lengthen()
            else:
                rest.length = 0
                return text, RVM
        return self._interpreter.evaluate(decision, input_json), INTERPRETER
