"""The control socket as clients see it: every opcode, every malformed shape, many clients, disconnects."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from oomd.lmkd.server import MOST_PACKETS, Throttle
from oomd.lmkd.wire import LEVELS, encode_notice
from tests.descriptors import open_descriptors, opened_since
from tests.lmkd.client import Client, words_of
from tests.lmkd.served import ROOT, Served, Stranger, read_adj, sleepers
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """As on Android 15, in compatibility mode."""
    with closing(Served(str(tmp_path / "lmkd"))) as served:
        yield served


def test_registration_writes_and_remembers(served: Served) -> None:
    """PROCPRIO says nothing, writes oom_score_adj and nothing else, and the process is a candidate."""
    with served.connect() as client, sleepers(1) as (pid,):
        served.news()
        assert served.told(client, 1, pid, 10001, 900) == []
        assert read_adj(pid) == 900
        (record,) = served.registry.candidates()
        assert (record.id.pid, record.adj, record.uid) == (pid, 900, 10001)
        assert served.told(client, 1, pid, 10001, 950, 1) == []
        assert read_adj(pid) == 950
        assert served.adjs() == {pid: 950}


def test_remove_and_purge(served: Served) -> None:
    """PROCREMOVE forgets one, PROCPURGE all of the sender's; what the kernel knows stays as it is."""
    with served.connect() as client, sleepers(3) as pids:
        for pid in pids:
            client.send(1, pid, 10001, 700)
        client.send(2, pids[0])
        served.pump()
        assert set(served.adjs()) == set(pids[1:])
        client.send(3)
        served.pump()
        assert served.adjs() == {}
        assert read_adj(pids[0]) == 700
        assert served.told(client, 2, pids[0]) == []


def test_batch_of_three(served: Served) -> None:
    """PROCS_PRIO applies its records one after another; a bad one does not stop the rest."""
    with served.connect() as client, sleepers(2) as (one, other):
        served.news()
        told = served.told(client, 11, one, 1, 900, 0, 1 << 22, 1, 2000, 0, other, 1, 100, 1)
        assert told == ["Invalid PROCPRIO oomadj argument 2000"]
        assert served.adjs() == {one: 900, other: 100}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((1, 1, 2, 1001), "Invalid PROCPRIO oomadj argument 1001"),
        ((1, 1, 2, -1001), "Invalid PROCPRIO oomadj argument -1001"),
        ((1, 1, 2, 900, 2), "Invalid PROCPRIO process type argument 2"),
        ((1, 0, 2, 900), "Failed to open /proc/0/oom_score_adj; errno=2: process 0 might be dead"),
        ((1, -5, 2, 900), "Failed to open /proc/-5/oom_score_adj; errno=2: process -5 might be dead"),
        ((5, 7), "Invalid SUBSCRIBE event type 7"),
        ((5, -1), "Invalid SUBSCRIBE event type -1"),
        ((6,), "Received unexpected command code 6"),
        ((8,), "Received unknown command code 8"),
        ((99,), "Received unknown command code 99"),
        ((0, 1, 2, 3), "Wrong control socket read length cmd=0 len=16"),
        (tuple(range(14)), "Wrong control socket read length cmd=0 len=56"),
        ((0, *range(2000)), "Wrong control socket read length cmd=0 len=4096"),
    ],
)
def test_what_cannot_be_used_is_told(served: Served, words: tuple[int, ...], text: str) -> None:
    """One line each, no reply, and the connection goes on."""
    with served.connect() as client:
        served.news()
        assert served.told(client, *words) == [text]
        assert not _is_closed(served, client)


def _is_closed(served: Served, client: Client) -> bool:
    client.send(4, 1, 0)
    served.pump()
    return client.receive() != struct.pack(">2i", 4, 0)


def test_init_and_oomd_itself_are_refused(served: Served) -> None:
    """The gate decides who may be registered; a refusal is a line, and nothing is written."""
    with served.connect() as client:
        served.news()
        before = read_adj(os.getpid())
        assert served.told(client, 1, 1, 0, 900) == [
            "process 1 not registered: it is pid 1, oomd itself or what started it"
        ]
        served.told(client, 1, os.getpid(), 0, 900)
        assert read_adj(os.getpid()) == before
        assert served.adjs() == {}


def test_scope_holds(tmp_path: Path) -> None:
    """Nobody outside the scope is registered, nor has a number written."""
    with sleepers(2) as (root, other):
        before = read_adj(other)
        with closing(Served(str(tmp_path / "lmkd"), scope=f"tree:{root}")) as served, served.connect() as client:
            served.news()
            assert served.told(client, 1, other, 0, 900) == [
                f"process {other} not registered: it is outside the tree of {root}"
            ]
            assert read_adj(other) == before
            assert served.told(client, 1, root, 0, 900) == []
            assert served.adjs() == {root: 900}


def test_threads_are_not_registered(served: Served) -> None:
    """A thread that is not its process's leader is told as that."""
    import threading

    known, go_on = threading.Event(), threading.Event()
    tids: list[int] = []

    def wait() -> None:
        tids.append(threading.get_native_id())
        known.set()
        go_on.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    known.wait()
    try:
        with served.connect() as client:
            served.news()
            assert served.told(client, 1, tids[0], 0, 900) == [
                f"Attempt to register a task that is not a thread group leader (tid {tids[0]}, tgid {os.getpid()})"
            ]
    finally:
        go_on.set()
        thread.join()


def test_zero_bytes_are_no_end(served: Served) -> None:
    """An empty datagram is told as the original tells it, and the connection is kept."""
    with served.connect() as client:
        served.news()
        client.send_bytes(b"")
        assert served.news() == ["Got EOF on control data socket"]
        assert not _is_closed(served, client)


def test_half_closed_client_is_dropped(served: Served) -> None:
    """Who will never send again is let go of, instead of being ready for ever."""
    with served.connect() as client:
        client.socket.shutdown(socket.SHUT_WR)
        served.pump()
        assert served.server.clients == 0


def test_replies(served: Served) -> None:
    """GETKILLCNT, UPDATE_PROPS and BOOT_COMPLETED are answered in eight bytes, nothing else is."""
    with served.connect() as client:
        for words, answer in (
            ((4, -1000, 1000), (4, 0)),
            ((7,), (7, 0)),
            ((10,), (10, 0)),
            ((10,), (10, 1)),
        ):
            client.send(*words)
            served.pump()
            assert words_of(client.receive()) == answer
        served.good_properties = False
        client.send(7)
        served.pump()
        assert client.receive() == bytes.fromhex("00000007ffffffff")
        before = served.monitoring
        client.send(9)
        served.pump()
        assert served.monitoring == before + 1


def test_properties_are_answered_in_their_turn(served: Served) -> None:
    """The file is read elsewhere: until that is done nothing more of this client is read, and others are served; then
    its answers come in the order of its questions.
    """
    served.properties_later = True
    with served.connect() as client, served.connect() as other:
        client.send(7)
        client.send(4, 1, 0)
        other.send(4, 1, 0)
        served.pump()
        assert words_of(other.receive()) == (4, 0)
        assert not is_ready(client.socket, 0)
        served.good_properties = False
        served.properties_asked.pop()(False)
        served.pump()
        assert [words_of(client.receive()) for _ in range(2)] == [(7, -1), (4, 0)]


def test_client_that_does_not_wait_for_its_properties(served: Served) -> None:
    """It hangs up first, and another one has its descriptor: nobody gets an answer to what he did not ask."""
    served.properties_later = True
    with served.connect() as client:
        client.send(7)
        served.pump()
    with served.connect() as another:
        served.properties_asked.pop()(True)
        served.pump()
        assert not is_ready(another.socket, 0)
        another.send(4, 1, 0)
        served.pump()
        assert words_of(another.receive()) == (4, 0)


def test_what_was_sent_before_the_end_counts(tmp_path: Path) -> None:
    """A client registers many, more than are dealt with in one round, and hangs up at once: all are registered."""
    with sleepers(3 * MOST_PACKETS) as pids, closing(Served(str(tmp_path / "lmkd"), most=999)) as served:
        with served.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for pid in pids:
                client.send(1, pid, 1, 900)
        served.pump()
        assert served.server.clients == 0
        assert set(served.adjs()) == set(pids)


def test_target_is_taken(served: Served) -> None:
    """The minfree table is kept, once in a second; an empty one is nothing."""
    with served.connect() as client:
        served.news()
        assert served.told(client, 0) == []
        assert served.told(client, 0, 18432, 0, 23040, 100) == []
        assert list(served.service.minfree) == [(18432, 0), (23040, 100)]
        assert served.told(client, 0, 1, 0) == ["Ignoring frequent updated to lmkd limits"]
        served.now_us += 1_000_000
        assert served.told(client, 0, 1, 0) == []
        assert list(served.service.minfree) == [(1, 0)]


def test_kill_counters_over_ranges(served: Served) -> None:
    """Both ends count; an empty range is 0; above the highest adj the answer is all; far below the lowest no harm."""
    with served.connect() as client, sleepers(4) as pids:
        for pid, adj in zip(pids, (900, 900, 200, 0), strict=True):
            client.send(1, pid, 1, adj)
        served.pump()
        for each in served.registry.candidates():
            served.registry.note_kill(each.id, each.adj)
        asked = [(900, 900), (0, 900), (1, 899), (0, 0), (500, 100), (1001, 2000), (-(2**31), 2**31 - 1), (2000, 1001)]
        counts = []
        for lowest, highest in asked:
            client.send(4, lowest, highest)
            served.pump()
            counts.append(words_of(client.receive())[1])
        assert counts == [2, 4, 1, 1, 0, 4, 4, 0]
        assert served.adjs() == {}


def test_only_the_owner_changes_a_record(served: Served) -> None:
    """Another process may neither modify nor unregister nor purge it, and nothing is written for it."""
    stranger = Stranger(served)
    try:
        with served.connect() as client, sleepers(1) as (pid,):
            client.send(1, pid, 1, 500)
            served.news()
            stranger.send(struct.pack(">4i", 1, pid, 1, 900))
            (text,) = served.news()
            who = f"({os.geteuid()}, {stranger.process.pid})"
            assert text.endswith(f" {who} attempts to modify a process registered by another client")
            assert read_adj(pid) == 500
            served.wait_for_name(stranger.process.pid)
            stranger.send(struct.pack(">2i", 2, pid))
            (text,) = served.news()
            assert text == f"{sys.executable} {who} attempts to unregister a process registered by another client"
            stranger.send(struct.pack(">i", 3))
            assert served.news() == []
            assert served.adjs() == {pid: 500}
            with served.connect() as second:  # of the same process
                second.send(1, pid, 1, 600)
                served.pump()
                assert served.adjs() == {pid: 600}
    finally:
        stranger.end()


def test_records_outlive_their_client(served: Served) -> None:
    """After a disconnect they stay, and belong to whoever touches them next."""
    stranger = Stranger(served)
    with sleepers(2) as (one, other):
        stranger.send(struct.pack(">4i", 1, one, 1, 900))
        stranger.send(struct.pack(">4i", 1, other, 1, 800))
        stranger.end()
        assert served.server.clients == 0
        assert served.adjs() == {one: 900, other: 800}
        late = Stranger(served)
        try:
            with served.connect() as client:
                served.news()
                client.send(1, one, 1, 100)
                served.pump()
                late.send(struct.pack(">4i", 1, one, 1, 700))
                assert "attempts to modify" in served.news()[0]
                client.send(3)
                served.pump()
                assert served.adjs() == {}
        finally:
            late.end()


def test_a_process_of_a_reused_pid_is_nobody(served: Served) -> None:
    """A dead process is no candidate, and does not count against whoever registers anew."""
    with served.connect() as client, sleepers(1) as (pid,):
        client.send(1, pid, 1, 900)
        served.pump()
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert served.adjs() == {}
        served.news()
        assert served.told(client, 1, pid, 1, 900) == []  # a zombie still has its files
        assert served.adjs() == {}


def test_fourth_client_replaces_all(served: Served) -> None:
    """In compatibility mode the fourth connection closes the three others and stays."""
    with served.connect() as one, served.connect() as two, served.connect() as three:
        assert served.server.clients == 3
        with served.connect() as four:
            assert served.server.clients == 1
            assert [each.receive() for each in (one, two, three)] == [b"", b"", b""]
            assert not _is_closed(served, four)


def test_fourth_client_is_refused(tmp_path: Path) -> None:
    """Otherwise the newcomer is closed, and the three go on."""
    with closing(Served(str(tmp_path / "lmkd"), compatible=False)) as served:
        with served.connect() as one, served.connect() as two, served.connect() as three, served.connect() as four:
            assert four.receive() == b""
            assert [_is_closed(served, each) for each in (one, two, three)] == [False] * 3
        served.pump()
        assert served.server.clients == 0


def test_client_that_comes_back_is_not_one_too_many(tmp_path: Path) -> None:
    """Three that closed and three that came in the same round are three."""
    with closing(Served(str(tmp_path / "lmkd"), compatible=False)) as served:
        first = [served.connect() for _ in range(3)]
        for client in first:
            client.socket.close()
        again = [Client(served.path) for _ in range(3)]
        served.pump()
        assert [_is_closed(served, each) for each in again] == [False] * 3
        for client in again:
            client.socket.close()


def test_subscribers_get_notices(served: Served) -> None:
    """Kill notices go to those who asked for them; a connection that is closed has asked for nothing."""
    with served.connect() as asks, served.connect() as asks_not:
        asks.send(5, 0)
        asks_not.send(5, 1)
        served.pump()
        served.server.send(0, encode_notice(100, 10001, 5 << 20, LEVELS["A15"]))
        assert words_of(asks.receive()) == (6, 100, 10001, 5120)
        served.server.send(1, b"statistics")
        assert asks_not.receive() == b"statistics"
    served.pump()
    with served.connect() as late:
        served.server.send(0, b"for nobody")
        assert not _is_closed(served, late)


def test_subscriber_that_does_not_read_is_not_waited_for(served: Served) -> None:
    """What does not fit into its queue is dropped and counted."""
    with served.connect() as client:
        client.send(5, 0)
        served.pump()
        for _ in range(10_000):
            served.server.send(0, bytes(16))
        assert served.server.undelivered > 0
        assert served.server.clients == 1


def test_enclosed_descriptors_are_not_kept(served: Served) -> None:
    """Descriptors that a client sends along never become ours."""
    with served.connect() as client:
        before = open_descriptors()
        with open(os.devnull, "rb") as file:
            for _ in range(20):
                socket.send_fds(client.socket, [struct.pack(">3i", 4, 1, 0)], [file.fileno()] * 5)
                served.pump()
                assert words_of(client.receive()) == (4, 0)
        assert opened_since(before) == []


def test_flood_leaves_the_loop_its_turn(served: Served) -> None:
    """So many packets of one client are dealt with at once, the rest in the next round."""
    with served.connect() as client:
        client.socket.setblocking(False)
        sent = 0
        try:
            while sent < 3 * MOST_PACKETS:
                client.send(99)
                sent += 1
        except BlockingIOError:
            pass
        served.lines.clear()
        ((key, lost),) = served.waiter.wait_ready(0)
        assert isinstance(key, tuple)
        served.server.on_event(key[1], lost=lost)
        assert len(served.lines) == min(sent, MOST_PACKETS)
        served.pump()
        assert len(served.lines) == sent


def test_foreign_processes_of_other_users(tmp_path: Path) -> None:
    """Outside compatibility mode a user registers processes of its own only; root registers anybody."""
    if os.geteuid() != 0:
        return
    with closing(Served(str(tmp_path / "lmkd"), compatible=False)) as served, sleepers(1) as (pid,):
        from oomd.lmkd.registry import Sender
        from oomd.lmkd.wire import Registration

        served.registry.register(Sender(1234, 4321), Registration(pid, 1, 900))
        assert served.news() == [f"process {pid} not registered: it belongs to user 0, not 4321"]
        served.registry.register(Sender(1234, 0), Registration(pid, 1, 900))
        assert served.adjs() == {pid: 900}


def test_unclaimed_processes_of_other_users(tmp_path: Path) -> None:
    """When its client is gone a record still is nothing to a user whose process it is not: it stays whole, and stays
    unclaimed for somebody who may.
    """
    if os.geteuid() != 0:
        return
    with closing(Served(str(tmp_path / "lmkd"), compatible=False)) as served, sleepers(1) as (pid,):
        from oomd.lmkd.registry import Sender
        from oomd.lmkd.wire import Registration

        served.registry.register(Sender(1234, 0), Registration(pid, 1, 900))
        served.registry.disown(1234)
        stranger = Sender(5678, 4321)
        served.registry.purge(stranger)
        served.registry.remove(stranger, pid)
        served.registry.register(stranger, Registration(pid, 1, 1000))
        assert [line.partition(" attempts to ")[2] for line in served.news()] == [
            "unregister a process registered by another client",
            "modify a process registered by another client",
        ]
        assert served.adjs() == {pid: 900}
        assert read_adj(pid) == 900
        served.registry.remove(Sender(9, 0), pid)
        assert served.adjs() == {}


def test_registry_has_an_end(tmp_path: Path) -> None:
    """One process too many is told; the dead make room."""
    with closing(Served(str(tmp_path / "lmkd"), most=2)) as served, served.connect() as client, sleepers(3) as pids:
        for pid in pids[:2]:
            client.send(1, pid, 1, 900)
        served.news()
        assert served.told(client, 1, pids[2], 1, 900) == [
            f"process {pids[2]} not registered: 2 processes are registered already"
        ]
        os.kill(pids[0], 9)
        os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
        assert served.told(client, 1, pids[2], 1, 900) == []
        assert set(served.adjs()) == {pids[1], pids[2]}


def test_candidates_in_order(served: Served) -> None:
    """The highest adj first; of equal ones who was registered or brought up to date longest ago."""
    with served.connect() as client, sleepers(4) as pids:
        for pid, adj in zip(pids, (100, 900, 900, 900), strict=True):
            client.send(1, pid, 1, adj)
        client.send(1, pids[1], 1, 900)
        served.pump()
        assert [each.id.pid for each in served.registry.candidates()] == [pids[2], pids[3], pids[1], pids[0]]


def test_number_that_stays_inside(tmp_path: Path) -> None:
    """Android 17's fifth word: the process is registered, its oom_score_adj is left alone."""
    path = str(tmp_path / "lmkd")
    with closing(Served(path, level="A17")) as served, served.connect() as client, sleepers(1) as (pid,):
        before = read_adj(pid)
        assert served.told(client, 1, pid, 1, 900, 0, 1) == []
        assert read_adj(pid) == before != 900
        assert served.adjs() == {pid: 900}


def test_connections_are_told(served: Served) -> None:
    """Coming, going and being let go, in the words of the original."""
    client = Client(served.path)
    assert served.news() == ["lmkd data connection established"]
    client.socket.close()
    assert served.news() == ["lmkd data connection dropped", "closing lmkd data connection"]


SERVES_IN_A_NAMESPACE = """
import sys
from tests.lmkd.served import Served
served = Served(sys.argv[1])
print("ready", flush=True)
while not any("dropped" in text for _, text in served.lines):
    served.pump()
print(*(text for _, text in served.lines), sep="\\n", flush=True)
"""


def test_client_of_another_pid_namespace_is_dropped(tmp_path: Path) -> None:
    """It has no pid here by which it could own anything: told, and let go."""
    if os.geteuid() != 0:
        pytest.skip("a PID namespace takes root")
    path = str(tmp_path / "lmkd")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SERVES_IN_A_NAMESPACE, path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as inner:
        assert inner.stdout is not None
        assert inner.stdout.readline() == "ready\n"
        with Client(path) as client:
            client.send(3)
            assert client.receive() == b""
        assert inner.stdout.read().splitlines() == [
            "lmkd data connection established",
            "a client of another PID namespace was dropped: it cannot be told from others",
            "closing lmkd data connection",
        ]


def test_throttle() -> None:
    """So many lines per second; the others are counted and told with the next."""
    now = [0]
    lines: list[str] = []
    throttle = Throttle(lambda _, text: lines.append(text), lambda: now[0], most=2)
    for number in range(5):
        throttle.say("E", f"line {number}")
    now[0] = 1_000_000
    throttle.say("E", "later")
    assert lines == ["line 0", "line 1", "3 more lines of which nothing was told", "later"]
