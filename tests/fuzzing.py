"""Inputs that are nearly right, by the thousand (in ``make bench`` by the million), and what is left behind by them."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.descriptors import open_descriptors, opened_since

if TYPE_CHECKING:
    from collections.abc import Callable

IN_TESTS = 10_000
COUNT = int(os.environ.get("OOMD_FUZZ_LINES", str(IN_TESTS)))
LEAK_BYTES = 64 * 1024
"""A fifth of a byte for each of a third of a million; a leaked line or record is many times that."""
JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 1 << 70, -(1 << 63), 0.5, 1e308, "", "x", "\x00\n", "é" * 90, [], [[]], {}, {"a": {}},
    b"", (), ("Config", {}), ("Rules", {"rulesets": []}), frozenset(), ["x"] * 50, {"": None}, "NaN", "status", 10**400,
]  # fmt: skip


class Fuzzer:
    """Messages that are nearly right, and some that are not."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def message(self, templates: list[dict[str, Any]]) -> dict[str, Any]:
        """One with some of its values (however deep) in the place of others, gone, or more."""
        message = dict(self._chance.choice(templates))
        for _ in range(self._chance.choice((0, 1, 1, 2, 3))):
            message = self._changed(message)
        return message

    def one_of(self, samples: tuple[bytes, ...]) -> bytes:
        """Any of them."""
        return self._chance.choice(samples)

    def broken(self, data: bytes) -> bytes:
        """The same, mostly; or with some bytes changed, cut off, or more of them."""
        fate = self._chance.random()
        if fate < 0.5 or not data:
            return data
        if fate < 0.6:
            return data[: self._chance.randrange(len(data))]
        if fate < 0.65:
            return self._chance.randbytes(self._chance.choice((0, 1, 2, 5, 50, 300)))
        changed = bytearray(data)
        for _ in range(self._chance.choice((1, 1, 2, 5))):
            changed[self._chance.randrange(len(changed))] = self._chance.randrange(256)
        return bytes(changed)

    def _changed(self, value: Any) -> Any:
        """The value with one change somewhere in it."""
        if isinstance(value, dict) and value and self._chance.random() < 0.9:
            key = self._chance.choice(list(value))
            fate = self._chance.random()
            if fate < 0.2:
                return {name: each for name, each in value.items() if name != key}
            if fate < 0.3:
                return {**value, self._chance.choice(("x", "dry_run", "event", "number")): self._chance.choice(JUNK)}
            return {**value, key: self._changed(value[key])}
        if isinstance(value, (list, tuple)) and value and self._chance.random() < 0.7:
            place = self._chance.randrange(len(value))
            items = [self._changed(each) if number == place else each for number, each in enumerate(value)]
            return type(value)(items)
        return self._chance.choice(JUNK)


def without_a_leak(send: Callable[[int], None]) -> None:
    """So many inputs in three parts, after a tenth of them: neither descriptors nor memory are left behind. A leak
    grows in every part; the interpreter's table of interned names grows once, by two megabytes.
    """
    send(COUNT // 10)
    gc.collect()
    before = open_descriptors()
    tracemalloc.start()
    try:
        held = [0]
        for _ in range(3):
            send(COUNT // 3 + 1)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert opened_since(before) == []
    assert min(after - former for former, after in pairwise(held)) < LEAK_BYTES, held
