"""Packets of any shape against the codec, the service and the registry with the real gate: nothing is raised, nothing
is leaked. OOMD_FUZZ_PACKETS says how many; `make bench` sends a million.
"""

from __future__ import annotations

import _socket
import gc
import os
import random
import struct
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.registry import Sender
from oomd.lmkd.server import Client
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.served import Served, sleepers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

IN_TESTS = 20_000
LEAK_BYTES = 256 * 1024
"""Less than a quarter of a byte per packet of a million; a leaked record or line is many times that."""


class Fuzzer:
    """Random packets, most of them nearly right."""

    def __init__(self, seed: int, pids: list[int]) -> None:
        self._random = random.Random(seed)
        self._pids = [*pids, 0, 1, -1, 2, os.getpid(), 2**31 - 1, -(2**31), 1 << 22]
        self._numbers = (0, 1, 2, 3, 200, 900, 1000, 1001, -1000, -1001, 2**31 - 1, -(2**31))

    def packet(self) -> bytes:
        """One."""
        chance = self._random
        if chance.random() < 0.1:
            return chance.randbytes(chance.choice((0, 1, 3, 4, 8, 52, 64, 65, 300)))
        opcode = chance.choice((0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, -1))
        words = [opcode, *(self._word() for _ in range(chance.choice((0, 1, 2, 3, 4, 5, 8, 10, 12, 15, 16))))]
        data = struct.pack(f">{len(words)}i", *words)
        return data + bytes(chance.choice((0, 0, 0, 1, 3)))

    def sender(self) -> Sender:
        """One of several clients."""
        return Sender(self._random.choice((1000001, 1000002, os.getpid())), self._random.choice((0, 0, 4321)))

    def _word(self) -> int:
        return self._random.choice(self._pids if self._random.random() < 0.5 else self._numbers)


def test_any_packets_without_a_leak(tmp_path: Path) -> None:
    """No exception, no descriptor and no memory is left behind, and every registered process is one of ours."""
    count = int(os.environ.get("OOMD_FUZZ_PACKETS", str(IN_TESTS)))
    with sleepers(6) as pids, closing(Served(str(tmp_path / "lmkd"), level="A17", compatible=False)) as served:
        fuzzer = Fuzzer(7, pids)
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        client = Client(ours, served.server)
        served.waiter.watch(ours.fileno(), "fuzzed")

        def send(packets: int) -> None:
            for number in range(packets):
                data = fuzzer.packet()
                reply = served.service.answer(data, fuzzer.sender(), client)
                assert len(reply) in (0, 8)
                if not number % 64:
                    served.registry.disown(1000001)
                    served.lines.clear()
            served.lines.clear()

        send(count // 10)
        served.registry.close()
        before = open_descriptors()
        gc.collect()
        tracemalloc.start()
        held, _ = tracemalloc.get_traced_memory()
        send(count)
        assert {each.id.pid for each in served.registry.candidates()} <= set(pids)
        assert client.subscriptions <= {0, 1}
        served.registry.close()
        gc.collect()
        now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert opened_since(before) == []
        ours.close()
        theirs.close()
        assert now - held < LEAK_BYTES
