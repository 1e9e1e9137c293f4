"""Cases of other killers' catalogues: a trace of fake machines, a rule of ours that says what theirs does, and who is
chosen when.

A case is replayed by ``oomd replay PATH --config FILE --json``: the real readers, the real engine, nobody signalled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from oomd.__main__ import main
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import GIB, MIB, ProcTree

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SIZE = 100 * MIB
"""One unit of a catalogue's small numbers: 60/20/20 become 6000, 2000 and 2000 MiB."""
FIRST_PID = 101


@dataclass(frozen=True)
class Group:
    """A cgroup of a step. Those without children hold one process each; the others are the sum of what lies below."""

    size: int = 0
    """Anonymous memory of a cgroup without children, bytes."""
    marks: tuple[str, ...] = ()
    """Extended attributes, each set to ``1``; ``name=value`` for another value."""
    owner: int = 0
    """Whose directory it is."""
    pid: int = 0
    """Of its process; 0: counted from :data:`FIRST_PID` in the order of paths."""
    without: tuple[str, ...] = ()
    """Files that this kernel does not have."""
    files: dict[str, Any] = field(default_factory=dict)
    """Values of :class:`tests.fakes.cgroup_tree.FakeCgroup`."""


Groups = dict[str, Group]


@dataclass(frozen=True)
class Machine:
    """What a step shows: 32 GiB of memory, 24 of them available, no swap, unless said otherwise."""

    groups: Groups
    meminfo: dict[str, int] = field(default_factory=dict)
    """Values of :meth:`ProcTree.set_meminfo`."""
    vmstat: dict[str, int] = field(default_factory=dict)


def write_step(folder: Path, machine: Machine) -> tuple[ProcTree, CgroupTree]:
    """The step's ``proc/``, ``cgroup/`` and ``meta.yaml``."""
    proc, cgroups = ProcTree(folder / "proc"), CgroupTree(folder / "cgroup")
    proc.set_meminfo(**{"total": 32 * GIB, "available": 24 * GIB, "anon": 8 * GIB, **machine.meminfo})
    proc.set_vmstat(**machine.vmstat)
    proc.add_process(1, comm="systemd")
    xattrs: dict[str, dict[str, str]] = {}
    owners: dict[str, int] = {}
    for number, (path, group) in enumerate(sorted(whole(machine.groups).items())):
        pid = group.pid or FIRST_PID + number
        lives = is_leaf(path, machine.groups)
        # Where nobody is left, the process was seen a moment before.
        listed = lives and group.files.get("populated", True)
        values = {"anon": group.size, "pids": (pid,) if listed else (), **group.files}
        cgroups.add_group(path, **values)
        if lives:
            swap = values.get("swap", 0)
            proc.add_process(pid, comm=path.rpartition("/")[2], rss_anon=group.size, swap=swap, cgroup=path)
        xattrs[path] = {name: value or "1" for name, _, value in (mark.partition("=") for mark in group.marks)}
        owners[path] = group.owner
    for path, group in machine.groups.items():
        for name in group.without:
            (cgroups.root / path.lstrip("/") / name).unlink()
    # JSON is YAML.
    (folder / "meta.yaml").write_text(json.dumps({"xattrs": xattrs, "owners": owners}))
    return proc, cgroups


def whole(groups: Groups) -> Groups:
    """These cgroups with all their ancestors, the sizes of those with children summed up."""
    found = dict(groups)
    for path in groups:
        while path := path.rpartition("/")[0]:
            found.setdefault(path, Group())
    return {
        path: replace(
            group, size=sum(groups[each].size for each in groups if is_leaf(each, groups) and below(each, path))
        )
        for path, group in found.items()
    }


def below(path: str, ancestor: str) -> bool:
    """Whether it is that cgroup or lies in it."""
    return path == ancestor or path.startswith(ancestor + "/") or ancestor == "/"


def is_leaf(path: str, groups: Groups) -> bool:
    """Whether none of these lies in it; the root never is one."""
    return path != "/" and path in groups and not any(each != path and below(each, path) for each in groups)


def ruleset(when: str, choose: str, *, wait: str = "0s", name: str = "case") -> str:
    """One ruleset that kills at once, and then no more for an hour: one answer per trace."""
    return (
        f"- {{name: {name}, when: {when}, for: {wait}, choose: {{{choose}}},\n   then: [{{kill: {{}}}}], pause: 1h}}\n"
    )


ALWAYS = "{all: [{memory_above: {above: 1MiB}}]}"
"""Some machine is in use: for cases that ask whom, not when."""


def config(*rulesets: str, also: str = "") -> str:
    """The configuration of these rulesets."""
    return f"rulesets:\n{''.join(rulesets)}{also}"


@dataclass(frozen=True)
class Answer:
    """What a replay said."""

    lines: tuple[dict[str, Any], ...]
    """One object per step."""

    @property
    def chosen(self) -> list[tuple[float, str]]:
        """Time and cgroup of everybody who was to be killed."""
        kills = [line for line in self.lines if line["decision"]["action"] == "kill"]
        return [(line["time"], line["decision"]["target"]["cgroup"]) for line in kills]

    def order(self, step: int = -1) -> list[str]:
        """The cgroups as they were ranked at a step."""
        return [each["cgroup"] for each in self.lines[step]["ranking"]]


def replay(folder: Path, capsys: pytest.CaptureFixture[str], rules: str, steps: dict[str, Machine]) -> Answer:
    """The case's answer by ``oomd replay``; ``folder`` is empty yet."""
    trace = folder / "trace"
    for name, machine in steps.items():
        write_step(trace / name, machine)
    return ask(folder, capsys, rules)


def ask(folder: Path, capsys: pytest.CaptureFixture[str], rules: str) -> Answer:
    """The answer of a trace that lies there."""
    file = folder / "rules.yaml"
    file.write_text(rules)
    code = main(["replay", "--json", "--config", str(file), str(folder / "trace")])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return Answer(tuple(json.loads(line) for line in captured.out.splitlines()))
