"""Real processes that fork, touch memory, end and wait at our word; all of them end with us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.kernel.kin import parse_faults
from tests.kernel.children import until_asleep
from tests.waiting import is_ready

if TYPE_CHECKING:
    from types import TracebackType

_PROGRAM = r"""
import mmap, os, signal, sys, threading

def serve(orders, answers):
    held = []
    while True:
        order = os.read(orders, 4096)
        if not order:
            os._exit(0)
        word, _, rest = order.decode().partition(" ")
        if word == "touch":
            block = mmap.mmap(-1, int(rest) * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            block.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(int(rest)):
                block[page * mmap.PAGESIZE] = 1
            held.append(block)
            answer = 0
        elif word in ("fork", "thread"):
            mine, theirs = rest.split()
            def bear():
                pid = os.fork()
                if not pid:
                    serve(os.open(mine, os.O_RDONLY), os.open(theirs, os.O_WRONLY))
                born.append(pid)
            born = []
            if word == "fork":
                bear()
            else:
                def stay():
                    bear()
                    done.set()
                    threading.Event().wait()
                done = threading.Event()
                threading.Thread(target=stay, daemon=True).start()
                done.wait()
            answer = born[0]
        elif word == "end":
            os._exit(0)
        elif word == "wait":
            answer = os.wait()[0]
        elif word == "churn":
            for _ in range(int(rest)):
                pid = os.fork()
                if not pid:
                    os._exit(0)
                os.waitpid(pid, 0)
            answer = 0
        os.write(answers, b"%d\n" % answer)

serve(0, 1)
"""


def faults_of(pid: int) -> int:
    """All that it has ever counted, with what it took over from those it has waited for."""
    own, reaped, _, _ = parse_faults(Path(f"/proc/{pid}/stat").read_bytes())
    return own + reaped


class Kinfolk:
    """A first process and its descendants. Orders are carried out when a call is back."""

    def __init__(self) -> None:
        self._folder = f"/tmp/kinfolk.{os.getpid()}.{id(self)}"
        os.mkdir(self._folder)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.first = self._process.pid
        self._ended: dict[int, int] = {}
        """Of those whose parents have not waited for them: the parent of each."""
        self._parents: dict[int, int] = {}
        self._lost = 0
        """What those had faulted for whom pid 1 has waited."""
        self._pipes = {self.first: (self._process.stdin.fileno(), self._process.stdout.fileno())}
        self.touch(self.first, 1)  # it runs

    def __enter__(self) -> Kinfolk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pid in list(self._pipes):
            if pid != self.first:
                self._drop(pid)
        with self._process:
            self._process.kill()
        for name in os.listdir(self._folder):
            os.unlink(f"{self._folder}/{name}")
        os.rmdir(self._folder)

    def fork(self, pid: int, by: str = "fork") -> int:
        """A child of this one."""
        number = len(os.listdir(self._folder))
        mine, theirs = f"{self._folder}/{number}", f"{self._folder}/{number + 1}"
        os.mkfifo(mine)
        os.mkfifo(theirs)
        child = self._ask(pid, f"{by} {mine} {theirs}")
        self._parents[child] = pid
        self._pipes[child] = (os.open(mine, os.O_WRONLY), os.open(theirs, os.O_RDONLY))
        until_asleep(child)
        return child

    def fork_by_thread(self, pid: int) -> int:
        """The same, but a thread of it does so, and stays."""
        return self.fork(pid, "thread")

    def touch(self, pid: int, pages: int) -> None:
        """So many new ones, and it keeps them."""
        self._ask(pid, f"touch {pages}")

    def churn(self, pid: int, times: int) -> None:
        """It forks so often a child that ends at once, and waits for each."""
        self._ask(pid, f"churn {times}")

    def end(self, pid: int) -> None:
        """It ends; back when it has."""
        for child in self.waiting(pid):
            self._lost += faults_of(child)
            del self._ended[child]
        orphan = self._parents[pid] not in self._pipes
        self._lost += faults_of(pid) if orphan else 0
        pidfd = os.pidfd_open(pid)
        os.write(self._pipes[pid][0], b"end")
        self._drop(pid)
        assert is_ready(pidfd, 90)
        os.close(pidfd)
        if not orphan:
            self._ended[pid] = self._parents[pid]

    def wait(self, pid: int) -> int:
        """It waits for a child that has ended."""
        child = self._ask(pid, "wait")
        del self._ended[child]
        return child

    def waiting(self, pid: int) -> list[int]:
        """Its children that have ended and that it has not waited for."""
        return [child for child, parent in self._ended.items() if parent == pid]

    def faults(self) -> int:
        """All that any of them has ever counted, dead ones too."""
        return self._lost + sum(map(faults_of, [*self._pipes, *self._ended]))

    def _ask(self, pid: int, order: str) -> int:
        orders, answers = self._pipes[pid]
        os.write(orders, order.encode())
        answer = int(os.read(answers, 32))
        until_asleep(pid)  # what it faults on its way to the next order it has faulted
        return answer

    def _drop(self, pid: int) -> None:
        for fd in self._pipes.pop(pid):
            os.close(fd)
