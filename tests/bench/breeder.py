"""``python -I -S breeder.py``: makes processes on request, one line each on standard input, and tells of them on
standard output. All of them are its descendants and end with it (they live in its PID namespace, or die by its death).

``idle N`` sleeps, N times (small ones); ``hold MIB`` owns so much; ``leap MIB MORE`` owns so much (as much as a small
Python program where that is 0) and waits for ``go PID``, upon which it takes so much more at once; ``wake MORE`` does
the same, and is as small as those that sleep until then; ``churn N`` forks and ends N processes a second; ``hog``
computes for ever; ``end PID`` kills one of them.

It says ``born KIND PID BYTES`` before memory is taken and ``ready KIND PID BYTES`` afterwards.
"""

import contextlib
import mmap
import os
import signal
import sys
import time

MIB = 1 << 20
PAGE = mmap.PAGESIZE
SHELL = "/bin/sh"
gates: dict[int, int] = {}
never = os.pipe()
"""Nothing is ever written there."""


def say(*words: object) -> None:
    """One line, whole."""
    os.write(1, " ".join(str(word) for word in words).encode() + b"\n")


def take(mib: float) -> mmap.mmap:
    """Map and touch so much."""
    block = mmap.mmap(-1, int(mib * MIB), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(block), PAGE):
        block[offset] = 1
    return block


def own_bytes() -> int:
    """Anonymous memory of this process."""
    with open("/proc/self/statm", "rb") as file:
        fields = file.read().split()
    return (int(fields[1]) - int(fields[2])) * PAGE


def be_born(kind: str, expected: int = 0) -> None:
    """In the child: an ordinary process, with a name."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(kind.encode())
    say("born", kind, os.getpid(), own_bytes() + expected)


def hold(mib: float) -> None:
    """Owns it."""
    be_born("hold", int(mib * MIB))
    block = take(mib)
    say("ready", "hold", os.getpid(), own_bytes())
    while block:
        signal.pause()


def leap(mib: float, more: float, gate: int) -> None:
    """Takes more once it is told to."""
    be_born("leap")
    held = take(mib) if mib else None
    say("ready", "leap", os.getpid(), own_bytes())
    os.read(gate, 1)
    block = take(more)
    say("ready", "leapt", os.getpid(), own_bytes())
    while block or held:
        signal.pause()


def wait(gate: int, program: str) -> int:
    """A shell that waits for a line and becomes this program then. Its pid."""
    actions = [(os.POSIX_SPAWN_DUP2, gate, 0)]
    return os.posix_spawn(SHELL, [SHELL, "-c", f"read line; {program}"], {}, file_actions=actions)


def wake(more: float, gate: int) -> int:
    """A shell that waits until it is told to become a program that takes more. Its pid."""
    program = f"exec {sys.executable} -I -S {__file__} {more}"
    pid = wait(gate, program)
    say("ready", "wake", pid, 0)
    return pid


def awake(more: float) -> None:
    """The program."""
    block = take(more)
    say("ready", "leapt", os.getpid(), own_bytes())
    while block:
        signal.pause()


def churn(per_second: float) -> None:
    """Forks, waits, forks."""
    be_born("churn")
    say("ready", "churn", os.getpid(), own_bytes())
    begin, made = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begin) * per_second)
        for _ in range(min(due - made, int(per_second))):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
        made = due
        time.sleep(0.002)


def hog() -> None:
    """Computes."""
    be_born("hog")
    say("ready", "hog", os.getpid(), own_bytes())
    while True:
        pass


def bear(make: object, *arguments: object) -> int:
    """A child that does this."""
    assert callable(make)
    pid = os.fork()
    if pid:
        return pid
    try:
        make(*arguments)
    finally:
        os._exit(0)


def obey(words: list[str]) -> None:
    """One request."""
    kind, numbers = words[0], [float(word) for word in words[1:]]
    if kind == "idle":
        for _ in range(int(numbers[0])):
            wait(never[0], "exec true")
        say("ready", "idle", 0, 0)
    elif kind == "leap":
        gate, key = os.pipe()
        gates[bear(leap, *numbers, gate)] = key
        os.close(gate)
    elif kind == "wake":
        gate, key = os.pipe()
        gates[wake(numbers[0], gate)] = key
        os.close(gate)
    elif kind == "go":
        gate = gates.pop(int(numbers[0]))
        with contextlib.suppress(BrokenPipeError):  # it was killed before it began
            os.write(gate, b"g\n")
        os.close(gate)
    elif kind == "end":
        with contextlib.suppress(ProcessLookupError):  # somebody else was quicker
            os.kill(int(numbers[0]), signal.SIGKILL)
    else:
        bear({"hold": hold, "churn": churn, "hog": hog}[kind], *numbers)


def main() -> None:
    """Until standard input ends; with a number in its command line it is a program that takes so much."""
    if len(sys.argv) > 1:
        awake(float(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        obey(line.split())


if __name__ == "__main__":
    main()
