"""A server behind the scene's proxy that is slow or talks nonsense, whatever it serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import State
from tests.faults.scene import Scene


def late(seconds: float) -> State:
    """Its answers are late by so much."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts["proxy"].delay = seconds
        try:
            yield
        finally:
            scene.parts["proxy"].delay = 0.0

    return state


def talks(answer: bytes) -> State:
    """Whatever it is asked, this is its answer."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts["proxy"].nonsense = answer
        try:
            yield
        finally:
            scene.parts["proxy"].nonsense = b""
            scene.parts["proxy"].cut()

    return state
