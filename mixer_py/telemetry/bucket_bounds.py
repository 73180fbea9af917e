"""Upper bounds of a histogram's buckets, as settings hold them."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import Annotated

from pydantic import AfterValidator


def _ascend(bounds: tuple[float, ...]) -> tuple[float, ...]:
    ascending = all(first < second for first, second in pairwise(bounds))
    if not ascending or not all(map(isfinite, bounds)):
        raise ValueError("bounds of buckets are numbers in ascending order")
    return bounds


BucketBounds = Annotated[tuple[float, ...], AfterValidator(_ascend)]
"""Finite, each above the one before; +Inf is added."""
