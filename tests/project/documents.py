"""Reads and runs the blocks of a document: see `test_documents.py` for what a writer has to know."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_DIRECTIVE = re.compile(r"^ *<!-- run: (.*?) -->$")
_COMMAND_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        language: what stands after the fence.
        directive: what the comment before it says, without `run:`; empty when there is none.
        text: its lines, without the indent of the fence.
        line: 1-based line of the fence in the document.
    """

    language: str
    directive: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a console block and the output that the document shows for it."""

    command: str
    shown: tuple[str, ...]


def blocks(document: Path) -> list[Block]:
    """Every fenced block of a document, in order."""
    found: list[Block] = []
    directive = ""
    opened: tuple[int, str, int, list[str]] | None = None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is not None:
            indent, language, start, lines = opened
            if fence:
                found.append(Block(language, directive, "\n".join(lines) + "\n", start))
                opened, directive = None, ""
            else:
                lines.append(line[indent:])
        elif fence:
            opened = (len(fence[1]), fence[2], number, [])
        elif comment := _DIRECTIVE.match(line):
            directive = comment[1]
        elif line.strip():
            directive = ""
    assert opened is None, f"{document}:{number}: a fence is not closed"
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block: lines that begin with `$ `, continued with `> ` or a final backslash."""
    found: list[tuple[list[str], list[str]]] = []
    continued = False
    for line in block.text.splitlines():
        if continued:
            found[-1][0].append(line.removeprefix("> "))
        elif line.startswith("$ "):
            found.append(([line.removeprefix("$ ")], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0].append(line.removeprefix("> "))
        else:
            assert found, f"line {block.line}: a console block begins with a command"
            found[-1][1].append(line)
        continued = found[-1][0][-1].endswith("\\") and not found[-1][1]
    return [Step("\n".join(command), tuple(shown)) for command, shown in found]


def moved(text: str, ports: Mapping[int, int]) -> str:
    """The text with well-known ports replaced by those that this test may use."""
    return re.sub(r"(?<![\d.])\d{4,5}(?![\d.])", lambda match: str(ports.get(int(match[0]), match[0])), text)


def shows(output: str, expected: Sequence[str]) -> str:
    """The first expected line that the output has not, in order; empty when it has them all.

    Blanks count as one blank however many they are, and `…` stands for anything.
    """
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for line in expected:
        parts = [re.escape(part) for part in " ".join(line.split()).split("…")]
        pattern = re.compile(".*".join(parts))
        if line.strip() and not any(pattern.fullmatch(candidate) for candidate in lines):
            return line
    return ""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a document's commands run.

    Attributes:
        folder: working folder.
        environment: of the commands.
        ports: the ports to use, by the ports that documents name.
        background: starts a command that stays, and returns when it is ready.
        settled: waits until what the commands caused has arrived; called when a command did not show what it should.
    """

    folder: Path
    environment: Mapping[str, str]
    ports: Mapping[int, int]
    background: Callable[[str], None]
    settled: Callable[[], bool]

    def write(self, name: str, text: str) -> None:
        """Writes a block as a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(moved(text, self.ports), encoding="utf-8")

    def run(self, step: Step, place: str) -> None:
        """Runs one command and compares what it printed; again while what it reads may still be on its way."""
        command = moved(step.command, self.ports)
        if command.endswith("&"):
            self.background(command.removesuffix("&").strip())
            return
        expected = [moved(line, self.ports) for line in step.shown]
        while True:
            done = subprocess.run(
                ["/bin/bash", "-o", "pipefail", "-c", command],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
            output = done.stdout + done.stderr
            missing = shows(output, expected)
            if not missing:
                break
            assert self.settled(), f"{place}: $ {command}\ndid not print: {missing}\nbut:\n{output}"
        if not step.shown:
            assert done.returncode == 0, f"{place}: $ {command}\nexit {done.returncode}\n{output}"
