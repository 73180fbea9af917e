from __future__ import annotations

import uuid

from mixer_py.services.decision_ids import DecisionIds


def test_every_name_is_a_random_uuid_and_none_is_given_twice() -> None:
    ids = DecisionIds()
    drawn = [ids.draw() for _ in range(1000)]
    assert len(set(drawn)) == 1000
    for one in drawn:
        read = uuid.UUID(one)
        assert str(read) == one
        assert (read.version, read.variant) == (4, uuid.RFC_4122)


def test_all_that_is_random_in_a_name_differs_from_name_to_name() -> None:
    ids = DecisionIds()
    numbers = [uuid.UUID(ids.draw()).int for _ in range(200)]
    fixed = 0b1111 << 76 | 0b11 << 62  # version and variant
    for bit in range(128):
        values = {number >> bit & 1 for number in numbers}
        assert len(values) == (1 if fixed >> bit & 1 else 2), f"bit {bit}"
