"""Packets byte for byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.lmkd import wire
from oomd.lmkd.wire import LEVELS, Malformed, Plain, Register, Registration, decode

A11, A15, A17 = LEVELS["A11"], LEVELS["A15"], LEVELS["A17"]


def packet(*words: int) -> bytes:
    """Words as a client sends them."""
    return struct.pack(f">{len(words)}i", *words)


COMMANDS = [
    (packet(0), wire.Target(())),
    (packet(0, 18432, 0, 23040, 100), wire.Target(((18432, 0), (23040, 100)))),
    (packet(1, 100, 10000, 900), Register((Registration(100, 10000, 900),))),
    (packet(1, 100, 10000, -800, 1), Register((Registration(100, 10000, -800, 1),))),
    (packet(2, 100), wire.Remove(100)),
    (packet(3), Plain(3)),
    (packet(4, -1000, 1000), wire.Count(-1000, 1000)),
    (packet(5, 1), wire.Subscribe(1)),
    (packet(7), Plain(7)),
    (packet(9), Plain(9)),
    (packet(10), Plain(10)),
    (packet(11, 1, 2, 3, 0), Register((Registration(1, 2, 3),))),
    (
        packet(11, 1, 2, 3, 0, 4, 5, 6, 1, 7, 8, 9, 0),
        Register((Registration(1, 2, 3), Registration(4, 5, 6, 1), Registration(7, 8, 9))),
    ),
]


@pytest.mark.parametrize(("data", "command"), COMMANDS)
def test_every_command(data: bytes, command: object) -> None:
    """Every opcode of Android 15 is understood, with each number of words that it may have."""
    assert decode(data, A15) == command


@pytest.mark.parametrize("stray", [b"x", b"xy", b"xyz"])
@pytest.mark.parametrize(("data", "command"), [each for each in COMMANDS if len(each[0]) < 52])
def test_stray_bytes_are_ignored(data: bytes, command: object, stray: bytes) -> None:
    """One to three bytes behind the last word change nothing."""
    assert decode(data + stray, A15) == command


WRONG = [
    (b"", "Wrong control socket read length len=0"),
    (b"\0\0\0", "Wrong control socket read length len=3"),
    (packet(0, 1), "Wrong control socket read length cmd=0 len=8"),
    (packet(0, *range(14)), "Wrong control socket read length cmd=0 len=60"),
    (packet(1, 100, 10000), "Wrong control socket read length cmd=1 len=12"),
    (packet(1, 100, 10000, 900, 0, 1), "Wrong control socket read length cmd=1 len=24"),
    (packet(2), "Wrong control socket read length cmd=2 len=4"),
    (packet(2, 1, 2), "Wrong control socket read length cmd=2 len=12"),
    (packet(3, 1), "Wrong control socket read length cmd=3 len=8"),
    (packet(4, 1), "Wrong control socket read length cmd=4 len=8"),
    (packet(5), "Wrong control socket read length cmd=5 len=4"),
    (packet(6, 1), "Received unexpected command code 6"),
    (packet(7, 1), "Wrong control socket read length cmd=7 len=8"),
    (packet(8), "Received unknown command code 8"),
    (packet(9, 1), "Wrong control socket read length cmd=9 len=8"),
    (packet(10, 1), "Wrong control socket read length cmd=10 len=8"),
    (packet(11), "LMK_PROCS_PRIO received invalid packet format"),
    (packet(11, 1, 2, 3), "LMK_PROCS_PRIO received invalid packet format"),
    (packet(11, *range(16)), "Wrong control socket read length cmd=11 len=68"),
    (packet(12), "Received unknown command code 12"),
    (packet(-1), "Received unknown command code -1"),
    (struct.pack("<4i", 1, 100, 10000, 900), "Received unknown command code 16777216"),
]


@pytest.mark.parametrize(("data", "text"), WRONG)
def test_every_malformed_shape(data: bytes, text: str) -> None:
    """Short, odd, long, unknown and little-endian packets are told in the words of the original."""
    assert decode(data, A15) == Malformed(text)


@pytest.mark.parametrize("opcode", [8, 9, 10, 11])
def test_android_11_knows_eight_commands(opcode: int) -> None:
    """What came later is unknown there."""
    assert decode(packet(opcode), A11) == Malformed(f"Received unknown command code {opcode}")


def test_android_17_has_a_fifth_word() -> None:
    """It keeps the number inside the daemon; a batch has five words per record and may be 64 bytes long."""
    kept = Registration(100, 1, 900, 0, only_here=True)
    assert decode(packet(1, 100, 1, 900, 0, 1), A17) == Register((kept,))
    assert decode(packet(1, 100, 1, 900), A17) == Register((Registration(100, 1, 900),))
    assert decode(packet(11, *(100, 1, 900, 0, 1) * 3), A17) == Register((kept,) * 3)
    assert decode(packet(0, *range(12)), A17) == wire.Target(tuple(zip(range(0, 12, 2), range(1, 12, 2), strict=True)))
    assert decode(packet(0, *range(14)), A17) == Malformed("Wrong control socket read length cmd=0 len=60")
    assert decode(packet(11, 100, 1, 900, 0), A17) == Malformed("LMK_PROCS_PRIO received invalid packet format")
    assert decode(packet(11, *(100, 1, 900, 0, 1) * 3) + b"\0" * 4, A17) == Malformed(
        "Wrong control socket read length cmd=11 len=68"
    )


def test_replies() -> None:
    """Eight bytes: the opcode and the answer; a count beyond 32 bits is the largest number."""
    assert wire.encode_reply(4, 3) == bytes.fromhex("0000000400000003")
    assert wire.encode_reply(7, -1) == bytes.fromhex("00000007ffffffff")
    assert wire.encode_reply(10, 0) == bytes.fromhex("0000000a00000000")
    assert wire.encode_reply(4, 1 << 40) == bytes.fromhex("000000047fffffff")


def test_kill_notice() -> None:
    """16 bytes with the resident kB, 12 bytes without in Android 11."""
    assert wire.encode_notice(258, 10001, 5 << 20, A15) == bytes.fromhex("00000006000001020000271100001400")
    assert wire.encode_notice(258, 10001, 5 << 20, A11) == bytes.fromhex("000000060000010200002711")


def test_statistics_by_offset() -> None:
    """Each field stands where readers look for it."""
    usage = wire.Usage(11, 12, 13, 14, 15, 16)
    kill = wire.Circumstances(21, 22, 23, 24, 25, 26, 27, 28)
    data = wire.encode_statistics(usage, kill, b"com.example:ui")
    assert data[:4] == b"\0\0\0\x08"
    assert [int.from_bytes(data[at : at + 8], "big") for at in (4, 12, 20, 28, 36, 44)] == [11, 12, 13, 14, 15, 16]
    assert [int.from_bytes(data[at : at + 4], "big") for at in range(52, 84, 4)] == [21, 22, 23, 24, 25, 26, 27, 28]
    assert int.from_bytes(data[84:86], "big") == 14
    assert data[86:] == b"com.example:ui\0"
    assert len(data) == 87 + 14


def test_statistics_of_what_could_not_be_read() -> None:
    """Six times -1; a long command line is cut to 127 bytes."""
    kill = wire.Circumstances(1, 2, 3, 4, 5, -1, 7, 8)
    data = wire.encode_statistics(wire.Usage(), kill, b"n" * 500)
    assert data[4:52] == b"\xff" * 48
    assert data[72:76] == b"\xff" * 4
    assert len(data) == 87 + 127
    assert data[84:86] == b"\0\x7f"


@given(st.binary(max_size=80), st.sampled_from(sorted(LEVELS)))
def test_any_bytes(data: bytes, name: str) -> None:
    """Whatever comes, the answer is a command or words, never an exception."""
    command = decode(data, LEVELS[name])
    assert isinstance(command, Malformed) == (getattr(command, "text", "") != "")


@given(st.integers(), st.integers(), st.binary())
def test_any_figures_can_be_told(amount: int, fact: int, name: bytes) -> None:
    """No figure is too large for a notice."""
    kill = wire.Circumstances(*[fact] * 8)
    usage = wire.Usage(*[max(-1, amount)] * 6)
    assert len(wire.encode_statistics(usage, kill, name)) == 87 + min(127, len(name))
    assert len(wire.encode_notice(1, 2, max(0, amount), A15)) == 16
