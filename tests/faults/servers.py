"""A server that mixer asks, whatever it serves: away, standing still, slow, talking nonsense, or another in its place.

Those that are slow, talk nonsense or are another one are behind the scene's proxy.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import State
from tests.faults.scene import Scene


def away(part: str) -> State:
    """It is killed, and started again."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts[part].kill()
        try:
            yield
        finally:
            scene.parts[part].start()

    return state


def standing(part: str) -> State:
    """It answers nothing, with its connections open."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts[part].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            scene.parts[part].signal(signal.SIGCONT)

    return state


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


def talks(answer: bytes, proxy: str = "proxy") -> State:
    """Whatever it is asked, this is its answer."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts[proxy].nonsense = answer
        try:
            yield
        finally:
            scene.parts[proxy].nonsense = b""
            scene.parts[proxy].cut()

    return state


@contextmanager
def elsewhere(scene: Scene, port: int) -> Iterator[None]:
    """Its address leads to another port."""
    proxy, before = scene.parts["proxy"], scene.parts["proxy"].target
    proxy.target = port
    proxy.cut()
    try:
        yield
    finally:
        proxy.target = before
        proxy.cut()
