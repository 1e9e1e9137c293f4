"""Processes that misbehave on purpose. ``python actors.py ROLE [ARGUMENT…]``; sizes in MiB, and a limit of its own for
each.

Every actor dies with its parent and ends by itself after some minutes: a failing test leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

MIB = 1 << 20
LONGEST_S = 240
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
BLOCKS: list[mmap.mmap] = []
LIBC = ctypes.CDLL(None, use_errno=True)


def say(*words: object) -> None:
    """One line to whoever watches."""
    os.write(1, os.fsencode(" ".join(str(word) for word in words) + "\n"))


def take(mib: float) -> None:
    """Map and touch so much more."""
    block = mmap.mmap(-1, int(mib * MIB), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(block), mmap.PAGESIZE):
        block[offset] = 1
    BLOCKS.append(block)


def idle() -> None:
    """Wait for the end."""
    time.sleep(LONGEST_S)


def name(comm: str) -> None:
    """Be called this."""
    LIBC.prctl(PR_SET_NAME, os.fsencode(comm))


def start(*words: str) -> subprocess.Popen[bytes]:
    """Another actor as a child."""
    return subprocess.Popen([sys.executable, __file__, *words])


def hold(comm: str, mib: str) -> None:
    """Owns memory and does nothing."""
    name(comm)
    take(float(mib))
    say("holding", comm, os.getpid())
    idle()


def brim(comm: str, mib: str, more_mib: str) -> None:
    """Owns memory; takes more at SIGUSR1, at once."""
    name(comm)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    take(float(mib))
    say("brimful", comm, os.getpid())
    signal.sigwait({signal.SIGUSR1})
    take(float(more_mib))
    idle()


def leak(comm: str, most_mib: str, step_mib: str = "8", pause_s: str = "0.04") -> None:
    """Takes more and more, up to a limit."""
    name(comm)
    say("leaking", comm, os.getpid())
    while len(BLOCKS) * float(step_mib) < float(most_mib):
        take(float(step_mib))
        time.sleep(float(pause_s))
    say("full", comm, os.getpid())
    idle()


def share(comm: str, mib: str, kind: str = "memfd", children: str = "0") -> None:
    """Owns hardly anything but shared memory: a memfd, an anonymous mapping, or a file with a name; and has idle
    children that have it mapped and never touched it.
    """
    name(comm)
    size = int(mib) * MIB
    fd = -1
    if kind == "memfd":
        fd = os.memfd_create("heap")
    elif kind == "named":
        fd = os.open(f"/dev/shm/oomd-test-{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if fd >= 0:
        os.ftruncate(fd, size)
    block = mmap.mmap(fd, size)
    for offset in range(0, size, mmap.PAGESIZE):
        block[offset] = 1
    BLOCKS.append(block)
    for _ in range(int(children)):
        if os.fork() == 0:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            idle()
            os._exit(0)
    say("sharing", comm, os.getpid())
    idle()


def churn(comm: str, mib: str) -> None:
    """Owns memory and uses all of it, again and again."""
    name(comm)
    take(float(mib))
    say("churning", comm, os.getpid())
    while True:
        for offset in range(0, len(BLOCKS[0]), mmap.PAGESIZE):
            BLOCKS[0][offset] = 2
        time.sleep(0.1)


def stubborn(comm: str, most_mib: str) -> None:
    """Leaks and ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leak(comm, most_mib)


def polite(comm: str, most_mib: str, step_mib: str = "8") -> None:
    """Leaks, and leaves by itself when asked to."""

    def leave(number: int, frame: object) -> None:
        say("leaving", comm)
        os._exit(7)

    signal.signal(signal.SIGTERM, leave)
    leak(comm, most_mib, step_mib)


def brood(comm: str, mib: str, more_mib: str) -> None:
    """The head of a process group, in which another one owns memory and none dies of SIGTERM; it answers that by
    children, and once all of them are there the other one takes more, at once.
    """
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # which all that it starts inherit
    name("brood")
    owner = start("brim", comm, mib, more_mib)
    signal.sigwait({signal.SIGTERM})
    reading, writing = os.pipe()
    for _ in range(3):
        if os.fork() == 0:
            signal.alarm(LONGEST_S)
            name("chick")
            os.write(writing, b".")
            idle()
            os._exit(0)
    for _ in range(3):
        os.read(reading, 1)
    owner.send_signal(signal.SIGUSR1)
    idle()


def beside(*scripts: str) -> None:
    """Several actors side by side, each argument one with its words joined by commas; ends when the first has died."""
    cast = [start(*script.split(",")) for script in scripts]
    for actor in cast:
        actor_watch = threading.Thread(target=_tell_end, args=(actor,), daemon=True)
        actor_watch.start()
    cast_by_pid = {actor.pid: actor for actor in cast}
    while all(actor.poll() is None for actor in cast_by_pid.values()):
        time.sleep(0.02)
    time.sleep(1.0)  # a second victim would die now
    say("alive", *sorted(_name_of(actor) for actor in cast if actor.poll() is None))
    for actor in cast:
        actor.kill()
        actor.wait()


def troop(*scripts: str) -> None:
    """Several actors in a process group of their own, this one its head; each begins when the one before is there."""
    os.setpgid(0, 0)
    name("troop")
    for script in scripts:
        actor = start(*script.split(","))
        while _comm(actor.pid) != _name_of(actor):
            time.sleep(0.005)
    idle()


def _comm(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
        return file.read().strip()


def _name_of(actor: subprocess.Popen[bytes]) -> str:
    assert isinstance(actor.args, list)
    return str(actor.args[3])


def _tell_end(actor: subprocess.Popen[bytes]) -> None:
    status = actor.wait()
    say("ended", _name_of(actor), status)


def crowd(number: str, most_mib: str) -> None:
    """Many small processes, a hundred of which exit and are replaced each second, beside a leaker."""
    leaker = start("leak", "leaker", most_mib)
    small = [subprocess.Popen(["sleep", str(LONGEST_S)]) for _ in range(int(number))]
    oldest = 0
    end = time.monotonic() + LONGEST_S / 2
    while leaker.poll() is None and time.monotonic() < end:
        for _ in range(5):
            small[oldest].kill()
            small[oldest].wait()
            pid = os.posix_spawn("/bin/sleep", ["sleep", "30"], os.environ)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            oldest += 1
        if oldest >= len(small) - 5:
            break
        time.sleep(0.05)
    leaker.wait(timeout=LONGEST_S / 2)
    say("ended leaker", leaker.returncode)
    say("alive", sum(actor.poll() is None for actor in small), "of", len(small) - oldest)
    for actor in small:
        actor.kill()
        actor.wait()


def dead_leader(most_mib: str) -> None:
    """The main thread exits; another one leaks on: stat says Z, statm says 0."""
    name("deadleader")

    def leak_on() -> None:
        time.sleep(0.2)
        leak("deadleader", most_mib)

    threading.Thread(target=leak_on).start()
    say("leaking deadleader", os.getpid())
    LIBC.pthread_exit(None)


def family(server_mib: str, children: str) -> None:
    """A server that forked idle children: all of them show its memory as theirs."""
    name("server")
    take(float(server_mib))
    for _ in range(int(children)):
        if os.fork() == 0:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            name("worker")
            idle()
            os._exit(0)
    say("holding server", os.getpid())
    idle()


def preforked(server_mib: str, children: str, most_mib: str) -> None:
    """The server family, and beside it, once that stands, a smaller leaker."""
    command = [sys.executable, __file__, "family", server_mib, children]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        leaker = start("leak", "leaker", most_mib, "4", "0.03")
        while leaker.poll() is None and server.poll() is None:
            time.sleep(0.02)
        time.sleep(1.0)
        say("alive", *(["server"] if server.poll() is None else []), *(["leaker"] if leaker.poll() is None else []))
        for actor in (server, leaker):
            actor.kill()
            actor.wait()


def as_nobody(role: str, *words: str) -> None:
    """Another role, as a user without rights."""
    os.setgid(65534)
    os.setuid(65534)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    ROLES[role](*words)


def parent(most_mib: str) -> None:
    """A leaker with small children of its own."""
    for number in range(3):
        start("hold", f"child{number}", "6")
    leak("leaker", most_mib)


def orphan(most_mib: str) -> None:
    """A leaker whose parent is gone."""
    if os.fork() == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, 0)
        if os.fork() == 0:
            signal.alarm(LONGEST_S)
            leak("orphan", most_mib)
        os._exit(0)
    os.wait()
    idle()


def status(code: str) -> None:
    """Ends with this status, or by this signal when negative."""
    if int(code) < 0:
        os.kill(os.getpid(), -int(code))
    sys.exit(int(code))


def hostile(most_mib: str) -> None:
    """A leaker with a name that breaks careless parsers, beside a harmless process with another."""
    other = subprocess.Popen([sys.executable, __file__, "hold", "x\ny) Z 0", "16"])
    leaker = subprocess.Popen([sys.executable, __file__, "leak", "a) R 1\udcff", most_mib])
    say("ended leaker", leaker.wait(timeout=LONGEST_S / 2))
    time.sleep(0.5)
    say("alive" if other.poll() is None else "dead", "other")
    other.kill()
    other.wait()


ROLES = {
    role.__name__: role
    for role in (
        as_nobody,
        hold,
        brim,
        churn,
        share,
        leak,
        stubborn,
        polite,
        brood,
        beside,
        troop,
        crowd,
        dead_leader,
        family,
        parent,
        preforked,
        orphan,
        status,
        hostile,
    )
}


def main() -> None:
    """Play the role that the arguments name."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(LONGEST_S)
    ROLES[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
