"""The packets of lmkd's control socket: 32-bit integers in network byte order, one packet per datagram.

Pure: bytes to commands, or to the words in which the original logs what it cannot use; replies and notices to bytes.
What differs between the generations of the protocol is a :class:`Level`. Source: liblmkd's lmkd.h and lmkd.cpp of
Android 11, 15 and 17, as far as they can be seen from outside.
"""

from __future__ import annotations

import struct

from oomd.model.values import dataclass

TARGET = 0
PROCPRIO = 1
PROCREMOVE = 2
PROCPURGE = 3
GETKILLCNT = 4
SUBSCRIBE = 5
PROCKILL = 6
UPDATE_PROPS = 7
STAT_KILL_OCCURRED = 8
START_MONITORING = 9
BOOT_COMPLETED = 10
PROCS_PRIO = 11

WORD_BYTES = 4
LOWEST_ADJ = -1000
HIGHEST_ADJ = 1000
"""The range of oom_score_adj; proc_pid_oom_score_adj(5)."""
MOST_TARGETS = 6
"""Pairs in one TARGET, whatever the longest packet is."""
MOST_NAME_BYTES = 127
"""Of the command line in a statistics packet, its NUL not counted."""
KILLS = 0
STATISTICS = 1
"""What SUBSCRIBE can ask for."""
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Level:
    """One generation of the protocol."""

    name: str
    most_bytes: int
    """The longest packet towards the daemon."""
    last_opcode: int
    registration_words: tuple[int, ...]
    """How many words PROCPRIO may have after its opcode."""
    batch_words: int
    """Of one record of PROCS_PRIO; 0 where there is none."""
    notice_has_rss: bool
    subscriptions: tuple[int, ...]


LEVELS = {
    level.name: level
    for level in (
        Level("A11", 52, UPDATE_PROPS, (3, 4), 0, notice_has_rss=False, subscriptions=(KILLS,)),
        Level("A15", 52, PROCS_PRIO, (3, 4), 4, notice_has_rss=True, subscriptions=(KILLS, STATISTICS)),
        Level("A17", 64, PROCS_PRIO, (3, 4, 5), 5, notice_has_rss=True, subscriptions=(KILLS, STATISTICS)),
    )
}
"""By the Android release that brought it."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A packet that is of no use; ``text`` is what the original logs."""

    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """The minfree table: pairs of pages and adj."""

    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """One process and its importance, as the client says it; nothing of it is checked yet."""

    pid: int
    uid: int
    adj: int
    kind: int = 0
    """0: an app, 1: a service."""
    only_here: bool = False
    """The number stays in the daemon and is not written to oom_score_adj."""


@dataclass(frozen=True, slots=True)
class Register:
    """PROCPRIO (one record) or PROCS_PRIO."""

    records: tuple[Registration, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """PROCREMOVE."""

    pid: int


@dataclass(frozen=True, slots=True)
class Count:
    """GETKILLCNT: kills of processes whose adj was in this range, both ends included."""

    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE."""

    what: int


@dataclass(frozen=True, slots=True)
class Plain:
    """PROCPURGE, UPDATE_PROPS, START_MONITORING or BOOT_COMPLETED: the opcode says everything."""

    opcode: int


TYPE_CHECKING = False
if TYPE_CHECKING:
    Command = Target | Register | Remove | Count | Subscribe | Plain | Malformed

_BARE = (PROCPURGE, UPDATE_PROPS, START_MONITORING, BOOT_COMPLETED)
_FIXED = {PROCREMOVE: 1, GETKILLCNT: 2, SUBSCRIBE: 1, **dict.fromkeys(_BARE, 0)}
"""Words after the opcode where there is only one number of them."""


def decode(data: bytes, level: Level) -> Command:
    """The command of one datagram. One to three bytes behind the last whole word are ignored, as by the original; one
    that is too long is not cut and misread but refused.
    """
    length = len(data)
    if length < WORD_BYTES:
        return Malformed(f"Wrong control socket read length len={length}")
    opcode, *words = struct.unpack_from(f">{length // WORD_BYTES}i", data)
    if opcode == PROCKILL:
        return Malformed(f"Received unexpected command code {opcode}")
    if not 0 <= opcode <= level.last_opcode or opcode == STAT_KILL_OCCURRED:
        return Malformed(f"Received unknown command code {opcode}")
    wrong = Malformed(f"Wrong control socket read length cmd={opcode} len={length}")
    if length > level.most_bytes or _FIXED.get(opcode, len(words)) != len(words):
        return wrong
    if opcode == TARGET:
        odd_or_many = len(words) % 2 or len(words) > 2 * MOST_TARGETS
        return wrong if odd_or_many else Target(tuple(zip(words[::2], words[1::2], strict=True)))
    if opcode == PROCPRIO:
        return Register((_registration(words),)) if len(words) in level.registration_words else wrong
    if opcode == PROCS_PRIO:
        return _batch(words, level.batch_words)
    return _simple(opcode, words)


def _simple(opcode: int, words: list[int]) -> Command:
    if opcode == PROCREMOVE:
        return Remove(words[0])
    if opcode == GETKILLCNT:
        return Count(words[0], words[1])
    if opcode == SUBSCRIBE:
        return Subscribe(words[0])
    return Plain(opcode)


def _batch(words: list[int], size: int) -> Command:
    if not words or len(words) % size:
        return Malformed("LMK_PROCS_PRIO received invalid packet format")
    return Register(tuple(_registration(words[at : at + size]) for at in range(0, len(words), size)))


def _registration(words: list[int]) -> Registration:
    pid, uid, adj, *rest = words
    return Registration(pid, uid, adj, rest[0] if rest else 0, only_here=len(rest) > 1 and rest[1] != 0)


def encode_reply(opcode: int, value: int) -> bytes:
    """What GETKILLCNT, UPDATE_PROPS and BOOT_COMPLETED are answered; a count that does not fit is the largest that
    does.
    """
    return struct.pack(">2i", opcode, _fit32(value))


def encode_notice(pid: int, uid: int, rss_bytes: int, level: Level) -> bytes:
    """PROCKILL, to those who subscribed to kills: who is being killed, and its resident memory in kB."""
    if not level.notice_has_rss:
        return struct.pack(">3i", PROCKILL, pid, uid)
    return struct.pack(">4i", PROCKILL, pid, uid, _fit32(rss_bytes // 1024))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a statistics packet tells of the victim; -1 for all of them where it could not be read."""

    pgfault: int = -1
    pgmajfault: int = -1
    rss_bytes: int = -1
    cache_bytes: int = -1
    swap_bytes: int = -1
    start_ns: int = -1
    """Since boot."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What it tells of the kill."""

    uid: int
    adj: int
    min_adj: int
    free_mem_kb: int
    free_swap_kb: int
    reason: int
    thrashing: int
    """Percent."""
    max_thrashing: int


def encode_statistics(usage: Usage, kill: Circumstances, name: bytes) -> bytes:
    """STAT_KILL_OCCURRED, to those who subscribed to statistics: 86 bytes, then the command line and a NUL."""
    name = name[:MOST_NAME_BYTES]
    amounts = (usage.pgfault, usage.pgmajfault, usage.rss_bytes, usage.cache_bytes, usage.swap_bytes, usage.start_ns)
    facts = (kill.uid, kill.adj, kill.min_adj, kill.free_mem_kb, kill.free_swap_kb, kill.reason)
    head = struct.pack(
        ">i6q8iH",
        STAT_KILL_OCCURRED,
        *(min(amount, _INT64) for amount in amounts),
        *(_fit32(fact) for fact in (*facts, kill.thrashing, kill.max_thrashing)),
        len(name),
    )
    return head + name + b"\0"


def _fit32(value: int) -> int:
    return max(-_INT32 - 1, min(value, _INT32))
