"""`array.flatten`, which the embedded engine lacks."""

from __future__ import annotations


def flatten(array: object) -> list[object]:
    """`array.flatten(arr)`: the elements of arrays that are elements, one level deep."""
    if not isinstance(array, list):
        raise TypeError("must be an array")
    return [inner for element in array for inner in (element if isinstance(element, list) else [element])]
