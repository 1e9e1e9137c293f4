"""Packets of any shape against the codec, the service and the registry with the real gate, and over the socket against
a daemon: nothing is raised, nothing is leaked. OOMD_FUZZ_PACKETS says how many; `make bench` sends a million to each.
"""

from __future__ import annotations

import _socket
import gc
import os
import random
import struct
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from oomd.lmkd.registry import Sender
from oomd.lmkd.server import Client
from tests.commands.test_lmkd import lmkd
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.client import Client as Connection
from tests.lmkd.served import Served, read_adj, sleepers

pytestmark = pytest.mark.integration

IN_TESTS = 20_000
COUNT = int(os.environ.get("OOMD_FUZZ_PACKETS", str(IN_TESTS)))
MADE_READY = 3
"""A foreseen victim's pidfd, and copies for the reaper and the lifter: there at one look, and not at the next."""
LEAK_BYTES = 256 * 1024
"""Less than a quarter of a byte per packet of a million; a leaked record or line is many times that."""
LEAK_RSS_KIB = 2048
"""Of a whole process, whose allocator keeps more or less; two bytes per packet of a million."""


class Fuzzer:
    """Random packets, most of them nearly right."""

    def __init__(self, seed: int, pids: list[int]) -> None:
        self._random = random.Random(seed)
        self._pids = [*pids, 0, 1, -1, 2, 2**31 - 1, -(2**31), 1 << 22]
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
    count = COUNT
    with sleepers(6) as pids, closing(Served(str(tmp_path / "lmkd"), level="A17", compatible=False)) as served:
        fuzzer = Fuzzer(7, [*pids, os.getpid()])
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
        print(f"{count} packets: {len(before)} descriptors before and after; {now - held:+} bytes")


def test_any_packets_over_the_socket(tmp_path: Path) -> None:
    """The same kind of packets to a daemon: it answers afterwards, has no descriptor more than before, and no more
    memory.
    """
    path = str(tmp_path / "lmkd")
    with sleepers(6) as pids, lmkd(tmp_path, os.getpid(), "--socket", path, "--protocol", "A17") as run:
        run.wait_event("start")
        fuzzer, killer = Fuzzer(11, pids), Path(f"/proc/{run.process.pid}")
        send_over(path, fuzzer, COUNT // 10)
        descriptors, rss_kib = count_descriptors(path, killer), read_rss_kib(killer)
        begin = time.monotonic()
        send_over(path, fuzzer, COUNT)
        took_s = time.monotonic() - begin
        assert count_descriptors(path, killer) <= descriptors + MADE_READY
        grown_kib = read_rss_kib(killer) - rss_kib
        assert grown_kib < LEAK_RSS_KIB
        with Connection(path) as client:
            client.send(1, pids[0], 10001, 321)
            client.settle()
            assert read_adj(pids[0]) == 321
        print(
            f"{COUNT} packets over the socket in {took_s:.0f} s: {descriptors} descriptors before and after; ", end=""
        )
        print(f"{rss_kib} KiB resident before, {grown_kib:+} KiB after")


def send_over(path: str, fuzzer: Fuzzer, packets: int) -> None:
    """So many over one connection, whose answers are read now and then; then nobody is registered any more."""
    with Connection(path) as client:
        for number in range(packets):
            client.send_bytes(fuzzer.packet())
            if not number % 16:
                discard_answers(client)
    with Connection(path) as client:
        client.send(3)
        client.settle()


def discard_answers(client: Connection) -> None:
    """What is there."""
    try:
        while client.socket.recv(64, _socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return


def count_descriptors(path: str, process: Path) -> int:
    """How many the daemon has with this one connection, once it has noticed that the others are gone."""
    with Connection(path) as client:
        for _ in range(3):
            client.settle()
        return len(os.listdir(process / "fd"))


def read_rss_kib(process: Path) -> int:
    """Its VmRSS."""
    lines = (process / "status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
