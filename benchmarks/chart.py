"""Line charts as SVG: enough for a report, and the same bytes for the same figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 40, 50
_MOST_STEPS = 8
_COLOURS = ("#1b6ac9", "#c9541b", "#2c8a3d", "#7a3fa8", "#666666")


def draw(title: str, across: str, up: str, lines: Mapping[str, Points], *, logarithmic: bool = True) -> str:
    """The chart.

    Args:
        title: above it.
        across: what the horizontal axis counts.
        up: what the vertical axis counts.
        lines: points by name, all above 0.
        logarithmic: the axes; else they begin at 0 and are even.
    """
    points = [point for line in lines.values() for point in line]
    axis = _Axis if logarithmic else _EvenAxis
    horizontal = axis([x for x, _ in points], _LEFT, _WIDTH - _RIGHT)
    vertical = axis([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    parts += [_grid(horizontal.at(mark), _TOP, horizontal.at(mark), _HEIGHT - _BOTTOM) for mark in horizontal.marks]
    parts += [_grid(_LEFT, vertical.at(mark), _WIDTH - _RIGHT, vertical.at(mark)) for mark in vertical.marks]
    parts += [
        f'<text x="{horizontal.at(mark):.0f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{mark:,g}</text>'
        for mark in horizontal.marks
    ]
    parts += [
        f'<text x="{_LEFT - 8}" y="{vertical.at(mark) + 4:.0f}" text-anchor="end">{mark:,g}</text>'
        for mark in vertical.marks
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text transform="translate(16 {(_TOP + _HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{horizontal.at(x):.1f},{vertical.at(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{horizontal.at(x):.1f}" cy="{vertical.at(y):.1f}" r="3" fill="{colour}"/>' for x, y in line
        ]
        row = _TOP + 18 * number + 8
        parts.append(f'<rect x="{_WIDTH - _RIGHT + 14}" y="{row - 8}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 32}" y="{row}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """A logarithmic axis over whole powers of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(math.ceil(math.log10(max(values))), self._low + 1)
        self._start, self._end = start, end
        self.marks = [10.0**power for power in range(self._low, self._high + 1)]

    def at(self, value: float) -> float:
        """Where a value stands."""
        return self._start + (math.log10(value) - self._low) / (self._high - self._low) * (self._end - self._start)


class _EvenAxis(_Axis):
    """An even axis from 0 over whole steps of 1, 2 or 5 times a power of ten."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        most = max(values)
        power = 10.0 ** math.floor(math.log10(most))
        step = next(factor * power for factor in (0.1, 0.2, 0.5, 1, 2) if most / (factor * power) <= _MOST_STEPS)
        self._most = math.ceil(most / step) * step
        self._start, self._end = start, end
        self.marks = [number * step for number in range(round(self._most / step) + 1)]

    def at(self, value: float) -> float:
        """Where a value stands."""
        return self._start + value / self._most * (self._end - self._start)


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'
