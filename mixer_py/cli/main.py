"""The command `mixer`: finds the module of the command that was named, and imports only that one.

Each command's module has `EXAMPLES`, `configure(parser)` and `run(arguments)`, which returns the exit code: 0 good,
1 what was checked is bad, 2 wrong usage. Not for: what a command does.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from mixer_py.errors import MixerError

GOOD, BAD, USAGE = 0, 1, 2
_INTERRUPTED = 130  # as a shell reports the death by SIGINT
_PIPE_CLOSED = 141  # as a shell reports the death by SIGPIPE

COMMANDS = {
    "serve": "run the server; SIGHUP or a changed file reloads, SIGTERM drains",
    "demo": "a real Envoy, two services, traffic, policies, limits and ClickHouse, all on this machine",
    "validate": "find every fault in configuration, policies and limits",
    "check": "decide one CheckRequest offline",
    "test": "run the tests of policies",
    "limits": "say which rate limit a descriptor matches, and why",
    "why": "tell the story of a request, by its id",
    "tail": "show requests as they end, live",
    "query": "read requests and decisions with a SELECT",
    "doctor": "say what is wrong around this mixer: addresses, certificates, stores, Envoy's settings, clocks",
    "version": "print the versions of mixer-py and its parts",
}


class Command(Protocol):
    """What a command's module has."""

    EXAMPLES: tuple[str, ...]

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Does it, and returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except MixerError as error:
        complain(str(error))
        return BAD
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    return code


def complain(text: str) -> None:
    """Writes what is wrong to stderr, a line for each fault."""
    from mixer_py.cli.output import printable  # noqa: PLC0415 (only needed when something is wrong)

    for line in text.splitlines() or [""]:
        sys.stderr.write(f"mixer: {printable(line)}\n")


def parser_of(name: str) -> tuple[argparse.ArgumentParser, Command]:
    """The parser of one command, and its module."""
    command = cast("Command", importlib.import_module(f"mixer_py.cli.{name}"))
    examples = "\n".join(f"  {example}" for example in command.EXAMPLES)
    parser = argparse.ArgumentParser(
        prog=f"mixer {name}",
        description=(command.__doc__ or "").strip().partition("\n\n")[0],
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.configure(parser)
    return parser, command


def _dispatch(words: list[str]) -> int:
    try:
        if words and words[0] in COMMANDS:
            parser, command = parser_of(words[0])
            return command.run(parser.parse_args(words[1:]))
        _root(words)
    except SystemExit as end:  # argparse ends the process by itself; a caller in this process wants the code
        return end.code if isinstance(end.code, int) else USAGE


def _root(words: list[str]) -> NoReturn:
    """Handles everything that names no command."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="mixer",
        usage="mixer COMMAND [options]",
        description="Policy and telemetry engine for Envoy and Istio.",
        epilog=f"commands:\n{listing}\n\nexample:\n  mixer validate -c mixer.yaml\n\n`mixer COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="as `mixer version`")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args(words)
    if arguments.version:
        command = parser_of("version")[1]
        sys.exit(command.run(argparse.Namespace(format="table")))
    if arguments.command is None:
        parser.error(f"name a command: {', '.join(COMMANDS)}")
    close = difflib.get_close_matches(arguments.command, COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the commands are {', '.join(COMMANDS)}"
    parser.error(f"there is no command {arguments.command!r}; {hint}")


if __name__ == "__main__":
    sys.exit(main())
