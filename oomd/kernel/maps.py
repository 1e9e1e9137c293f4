"""The memory map of a process: which of its ranges can be swapped out; proc_pid_maps(5)."""

from __future__ import annotations


def parse_anonymous(data: bytes) -> list[tuple[int, int]]:
    """(address, length) of the private ranges without a file, largest first: heap, stacks and what malloc maps. Lines
    that look otherwise, and what the kernel itself put there (``[vdso]``), are left out.
    """
    ranges = []
    for line in data.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) < 5 or not fields[1].startswith(b"rw") or fields[1][3:4] != b"p" or fields[4] != b"0":
            continue
        if len(fields) == 6 and fields[5].startswith(b"[v"):
            continue
        begin, _, end = fields[0].partition(b"-")
        try:
            address = int(begin, 16)
            length = int(end, 16) - address
        except ValueError:
            continue
        if length > 0:
            ranges.append((address, length))
    return sorted(ranges, key=lambda each: (-each[1], each[0]))


def cut(ranges: list[tuple[int, int]], most_bytes: int) -> list[list[tuple[int, int]]]:
    """The same in pieces of at most so many bytes (whole pages, if that is a multiple), in their order."""
    pieces: list[list[tuple[int, int]]] = [[]]
    room = most_bytes
    for address, length in ranges:
        at = 0
        while at < length:
            part = min(room, length - at)
            pieces[-1].append((address + at, part))
            at, room = at + part, room - part
            if not room:
                pieces.append([])
                room = most_bytes
    return pieces if pieces[-1] else pieces[:-1]
