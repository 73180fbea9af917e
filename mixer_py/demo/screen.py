"""How the demo looks: short sentences while things start, a live table of requests, the joined rows, the metrics.

On a terminal the table grows in place; anywhere else each line is printed once and plainly. The only module of the
demo that writes to the screen.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mixer_py.demo.evidence import KINDS, Row
from mixer_py.demo.parts import Parts
from mixer_py.demo.traffic import CALLERS, Exchange, Step, curl

_PLAIN_WIDTH = 140
_LIVE_ROWS = 16
_METRIC = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_STORY_LABELS = (
    "destination_service_name", "response_code", "response_flags", "source_workload", "decision", "verdict", "rule",
    "code",
)  # fmt: skip


class Screen:
    """Where the story is told."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(highlight=False)
        if not console.is_terminal:
            console = Console(file=console.file, highlight=False, width=_PLAIN_WIDTH)
        self._console = console
        self._rows: deque[Exchange] = deque(maxlen=_LIVE_ROWS)
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """One or more lines of the story, in rich's markup."""
        self._console.print(text)

    def heading(self, text: str) -> None:
        """Begins a chapter."""
        self._console.print(f"\n[bold cyan]{text}[/]")

    @contextlib.contextmanager
    def waiting(self, doing: str, done: str) -> Iterator[None]:
        """Shows what is being done, and what was done when the block ends well."""
        if self._console.is_terminal:
            with self._console.status(doing):
                yield
        else:
            self._console.print(f"  … {doing}")
            yield
        self._console.print(f"  [green]✓[/] {done}")

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """While the block runs, `show` adds to a table of requests."""
        self._rows.clear()
        if not self._console.is_terminal:
            yield
            return
        with Live(self._traffic_table(), console=self._console, auto_refresh=False) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def show(self, exchange: Exchange) -> None:
        """One request has ended."""
        self._rows.append(exchange)
        if self._live is not None:
            self._live.update(self._traffic_table(), refresh=True)
        elif not self._console.is_terminal:
            step = exchange.step
            self._console.print(
                f"  {step.caller.name:9} {step.method:7}{step.path:17} {exchange.status}  {escape(_why(exchange))}"
            )

    def _traffic_table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("  caller", "request", "status", "why"):
            table.add_column(column, no_wrap=True)
        for exchange in self._rows:
            step = exchange.step
            table.add_row(
                f"  {step.caller.name}",
                f"{step.method} {step.path}",
                Text(str(exchange.status), _colour(exchange.status)),
                escape(_why(exchange)),
            )
        return table

    def rows(self, found: Mapping[str, Row]) -> None:
        """The joined row of each kind."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
        for column in ("  kind", "request", "verdict · why", "limit · left", "outcome"):
            table.add_column(column, overflow="fold")
        for kind in KINDS:
            if kind.name in found:
                table.add_row(*_joined(kind.name, found[kind.name]))
        self._console.print(table)

    def whole_row(self, row: Row) -> None:
        """Every column of one row, to show that it is one."""
        pairs = [f"[dim]{name}[/] {escape(str(value))}" for name, value in row.items() if value not in ("", None)]
        self._console.print("  " + " · ".join(pairs))

    def metrics(self, lines: Sequence[str]) -> None:
        """Samples of /metrics; of many labels, those that tell the story."""
        for line in lines:
            match = _METRIC.match(line)
            if match is None:
                self._console.print(f"  {escape(line)}")
                continue
            if float(match["value"]) == 0:
                continue  # declared, and never counted
            labels = _LABEL.findall(match["labels"])
            told = [f'{name}="{value}"' for name, value in labels if name in _STORY_LABELS]
            if len(told) < len(labels):
                told.append("…")
            self._console.print(
                f"  {match['name']}{{{escape(', '.join(told))}}} [bold]{float(match['value']):g}[/]", soft_wrap=True
            )

    def invitation(self, running: Parts, steps: Sequence[Step]) -> None:
        """What a person can try while it stays up."""
        sql = "SELECT timestamp, verdict, reasons, limit_code, response_code FROM requests ORDER BY 1 DESC LIMIT 5"
        lines = [
            *((curl(running.http, step), step.why) for step in steps),
            (f"mixer query -c {running.configuration} '{sql}'", ""),
            (f"curl -s http://127.0.0.1:{running.admin}/metrics", "for Prometheus"),
            (f"$EDITOR {running.folder}/policy.rego", "or limits.yaml: mixer reloads them by itself"),
        ]
        for command, why in lines:
            comment = f"   [dim]# {escape(why)}[/]" if why else ""
            self._console.print(f"  {escape(command)}{comment}", soft_wrap=True)


def introduce() -> str:
    """Who the callers are, one line each."""
    return "\n".join(f"  [bold]{caller.name:9}[/] {caller.about}" for caller in CALLERS)


def _why(exchange: Exchange) -> str:
    if exchange.status == 429:
        return "over the limit of tenant acme"
    if exchange.status == 503:
        return "allowed; the service dropped the connection"
    return exchange.said or exchange.step.why


def _colour(status: int) -> str:
    return "green" if status < 400 else "yellow" if status == 429 else "magenta" if status >= 500 else "red"


def _joined(kind: str, row: Row) -> tuple[str, ...]:
    colour = {"allow": "green", "deny": "red"}.get(row["verdict"], "yellow")
    rule = f"\n[dim]rule {escape(row['rule'])}[/]" if row["rule"] else ""
    limit = escape(f"{row['limit_code']}") if row["limit_code"] else "[dim]not asked[/]"
    if row["limit_code"]:
        limit += f" · {row['limit_remaining']} left\n[dim]{escape(row['limit_name'])}[/]"
    code = int(row["response_code"])
    flags = "" if row["response_flags"] in ("", "-") else f" {row['response_flags']}"
    outcome = f"[{_colour(code)}]{code}[/]{escape(flags)}\n[dim]{escape(row['destination_service_name'])}[/]"
    request = f"{row['request_method']} {row['request_url_path']}\n{row['request_id'][:13]}…"
    return (
        f"  [bold]{kind}[/]",
        escape(request),
        f"[{colour}]{row['verdict']}[/] · {escape(row['reasons'])}{rule}",
        limit,
        outcome,
    )
