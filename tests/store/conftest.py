"""Stores for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.store_process import StoreProcess


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StoreProcess]:
    """A folder for a store; the test starts the process."""
    process = StoreProcess(tmp_path)
    yield process
    await process.close()


@pytest.fixture
async def running(store: StoreProcess) -> StoreProcess:
    """A store that listens."""
    assert await store.start() == {"event": "listening"}
    return store
