"""What users of other killers ran into, as traces for the default rules: who goes, and who lives.

Letters and numbers (F8, demand 13) are those of the failures and demands that were gathered from the threads of
earlyoom, nohang and systemd-oomd.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from oomd.__main__ import main
from tests.fakes.proc_tree import GIB, MIB, ProcTree

if TYPE_CHECKING:
    from pathlib import Path

Crowd = dict[int, dict[str, Any]]


@dataclass(frozen=True)
class Story:
    """Two looks at a machine of 16 GiB, 4 s apart: with memory enough, and short of it."""

    name: str
    before: Crowd
    """By pid; who is not in ``after`` stays as he is."""
    after: Crowd
    victim: int | None
    """Who goes at the second look; None: nobody."""
    memory: dict[str, int] = field(default_factory=dict)
    """Of the second look, what differs from 100 MiB available and 15 GiB anonymous."""
    first: dict[str, int] = field(default_factory=dict)
    """Of the first look, likewise (from 8 GiB available)."""
    action: str = "kill"
    arc: int = 0
    """What ZFS's cache could give back at the second look."""


def heap(inode: int, size: int, *, path: str = "/memfd:heap (deleted)") -> dict[str, Any]:
    """A process whose memory lies in a mapping that it shares with nobody in sight."""
    return {"rss_anon": 40 * MIB, "rss_shmem": size, "maps": ((path, inode, size),)}


BYSTANDERS: Crowd = {
    10: {"comm": "gnome-shell", "rss_anon": 600 * MIB, "uid": 1000},
    11: {"comm": "chrome", "rss_anon": 900 * MIB, "uid": 1000},
    12: {"comm": "postgres", "rss_anon": 300 * MIB, "uid": 113},
}
TABS: Crowd = {
    100 + number: {"comm": "chrome", "rss_anon": (60 + number) * MIB, "oom_score_adj": 300, "uid": 1000}
    for number in range(40)
}
CREW: Crowd = {200 + number: {"comm": "cc1plus", "rss_anon": 100 * MIB, "ppid": 199} for number in range(12)}
POOL: Crowd = {
    300 + number: {
        "comm": "postgres",
        "ppid": 300 if number else 1,
        "rss_anon": 30 * MIB,
        "rss_shmem": 3 * GIB if number < 2 else 0,
        "maps": (("/dev/zero (deleted)", 77, 4 * GIB),),
    }
    for number in range(4)
}


def grown(crowd: Crowd, by: int) -> Crowd:
    """The same, each so much larger."""
    return {pid: {**values, "rss_anon": values["rss_anon"] + by} for pid, values in crowd.items()}


STORIES = (
    Story(
        "demand 2: a small tab with a high oom_score_adj does not die for the hog",
        {**TABS, 50: {"comm": "matlab", "rss_anon": 2 * GIB}},
        {50: {"comm": "matlab", "rss_anon": 6 * GIB}},
        50,
    ),
    Story(
        "demand 2: of forty tabs the one that leaks",
        {**TABS, **BYSTANDERS},
        {117: {"comm": "chrome", "rss_anon": 5 * GIB, "oom_score_adj": 300, "uid": 1000}},
        117,
    ),
    Story(
        "a virtual machine, or a JVM under ZGC: all that it has lies in a memfd",
        {**BYSTANDERS, 50: {"comm": "java", **heap(7, 2 * GIB)}},
        {50: {"comm": "java", **heap(7, 11 * GIB)}},
        50,
        {"anon": 3 * GIB, "shmem": 11 * GIB, "available": 50 * MIB},
        {"anon": 3 * GIB, "shmem": 2 * GIB},
    ),
    Story(
        "the same, steady, beside a leaker: the leaker goes",
        {**BYSTANDERS, 50: {"comm": "qemu-kvm", **heap(7, 6 * GIB)}, 51: {"comm": "leaker", "rss_anon": GIB}},
        {51: {"comm": "leaker", "rss_anon": 5 * GIB}},
        51,
        {"anon": 7 * GIB, "shmem": 6 * GIB},
        {"anon": 3 * GIB, "shmem": 6 * GIB},
    ),
    Story(
        "F17: shared buffers are nobody's own, so no worker of the server dies for them",
        {**POOL, **BYSTANDERS, 50: {"comm": "report", "rss_anon": 200 * MIB}},
        {50: {"comm": "report", "rss_anon": 2 * GIB}},
        50,
        {"shmem": 4 * GIB},
        {"shmem": 4 * GIB},
    ),
    Story(
        "F17: a forked server counts what each worker has to itself",
        {
            400: {"comm": "server", "rss_anon": 3 * GIB, "private": 20 * MIB},
            **{
                400 + number: {"comm": "server", "ppid": 400, "rss_anon": 3 * GIB, "private": 20 * MIB}
                for number in range(1, 5)
            },
            50: {"comm": "leaker", "rss_anon": 400 * MIB},
        },
        {50: {"comm": "leaker", "rss_anon": 1500 * MIB}},
        50,
    ),
    Story(
        "demand 13: a file in tmpfs filled the memory, and somebody has it mapped: nobody dies for it",
        {**BYSTANDERS, 50: {"comm": "filler", **heap(9, GIB, path="/dev/shm/file")}},
        {50: {"comm": "filler", **heap(9, 8 * GIB, path="/dev/shm/file")}},
        None,
        {"anon": 3 * GIB, "shmem": 8 * GIB, "available": 120 * MIB},
        {"anon": 3 * GIB, "shmem": GIB},
        action="notify",
    ),
    Story(
        "a build: one of twelve compilers that grow together, and not the database that stands still",
        {**CREW, 12: {"comm": "postgres", "rss_anon": 6 * GIB}},
        grown(CREW, 500 * MIB),
        200,
    ),
    Story(
        "demand 16: compressed swap is nearly full; not what was swapped out long ago, but what fills it",
        {
            **BYSTANDERS,
            50: {"comm": "idle", "rss_anon": 100 * MIB, "swap": 4 * GIB},
            51: {"comm": "leaker", "rss_anon": GIB},
        },
        {51: {"comm": "leaker", "rss_anon": 2 * GIB, "swap": GIB}},
        51,
        {"anon": 9 * GIB, "swap_total": 8 * GIB, "swap_free": 300 * MIB},
        {"anon": 6 * GIB, "swap_total": 8 * GIB, "swap_free": 3 * GIB},
    ),
    Story(
        "F3 the other way round: while swap is free, little available memory alone is no reason",
        {**BYSTANDERS, 51: {"comm": "leaker", "rss_anon": GIB}},
        {51: {"comm": "leaker", "rss_anon": 6 * GIB}},
        None,
        {"swap_total": 8 * GIB, "swap_free": 6 * GIB},
        action="none",
    ),
    Story(
        "F12: in a container's namespace pid 2 is a process like any other, and its children are too",
        {2: {"comm": "hog", "rss_anon": 600 * MIB}, 3: {"comm": "child", "ppid": 2, "rss_anon": 700 * MIB}},
        {3: {"comm": "child", "ppid": 2, "rss_anon": 9 * GIB}},
        3,
    ),
    Story(
        "F15: the main thread has ended, and the others hold the memory",
        {**BYSTANDERS, 50: {"comm": "jvm", "state": "Z", "threads": 3, "rss_anon": GIB}},
        {50: {"comm": "jvm", "state": "Z", "threads": 3, "rss_anon": 9 * GIB}},
        50,
    ),
    Story(
        "demand 12: what ZFS's cache gives back is available",
        BYSTANDERS,
        {},
        None,
        {"anon": 3 * GIB},
        action="none",
        arc=6 * GIB,
    ),
    Story(
        "demand 27: oom_score_adj -1000 is never taken, -900 only for nine tenths of the memory",
        {
            **BYSTANDERS,
            50: {"comm": "vital", "rss_anon": 8 * GIB, "oom_score_adj": -1000},
            51: {"comm": "daemon", "rss_anon": 4 * GIB, "oom_score_adj": -900},
        },
        {},
        11,
    ),
    Story(
        "nobody exempts himself by his name",
        {**BYSTANDERS, 50: {"comm": "sshd", "uid": 1000, "rss_anon": GIB}},
        {50: {"comm": "sshd", "uid": 1000, "rss_anon": 6 * GIB}},
        50,
    ),
    Story(
        "huge pages are set aside: shares are of what is left, so that this is plenty",
        BYSTANDERS,
        {},
        None,
        {"anon": 2 * GIB, "available": 300 * MIB},
        action="none",
    ),
    Story(
        "F10: who is to be avoided is not therefore chosen; the largest that is left goes",
        {**BYSTANDERS, 50: {"comm": "Xorg", "rss_anon": 5 * GIB, "oom_score_adj": -600}},
        {},
        11,
    ),
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(tmp_path: Path, capsys: pytest.CaptureFixture[str], story: Story) -> None:
    """Nobody while there is memory; then the one that users would have chosen, or nobody."""
    for step, memory in (("0", {"available": 8 * GIB, **story.first}), ("4", {"available": 100 * MIB, **story.memory})):
        tree = ProcTree(tmp_path / step / "proc")
        tree.set_meminfo(**{"total": 16 * GIB, "anon": 15 * GIB, **memory})
        tree.add_process(1, comm="systemd")
        crowd = story.before if step == "0" else {**story.before, **story.after}
        for pid, values in crowd.items():
            tree.add_process(pid, **{"start_ticks": pid, **values})
        if step == "4" and story.arc:
            stats = tree.root / "spl" / "kstat" / "zfs" / "arcstats"
            stats.parent.mkdir(parents=True)
            stats.write_text(f"1 1 0x01 2 3\nname type data\nsize 4 {story.arc}\nc_min 4 0\n")
    assert main(["replay", "--json", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["decision"]["action"] for line in lines] == ["none", story.action], lines[1]["decision"]
    assert lines[1]["decision"]["pids"] == ([] if story.victim is None else [story.victim]), lines[1]["ranking"][:3]
