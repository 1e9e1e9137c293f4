"""``oomd check`` and ``oomd explain`` as a user calls them."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from oomd.__main__ import main
from oomd.kernel.tracefs import why_not_traced
from oomd.model.units import GIB, MIB
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path


def test_default_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file it shows what the embedded default means."""
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "# the embedded default, in full:" in out
    assert "ruleset level: when available memory is below min(5%, 1GiB) and free swap is below 10%" in out
    assert "SIGKILL at once" in out
    assert "to the process whose death gives back the most" in out


def test_problems_are_told_and_the_status_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem on standard error, one a line; nothing on standard output."""
    path = tmp_path / "oomd.yaml"
    path.write_text("levl: {}\nbudget: 1X\n", encoding="utf-8")
    assert main(["check", "--config", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"{path}:1:1: levl: unknown key (did you mean 'level'?)",
        f"{path}:2:9: budget: unknown unit 'X' in '1X': a size looks like 64MiB or 1GiB",
    ]
    assert main(["check", "--config", str(path), "--json"]) == 2
    assert [each["line"] for each in json.loads(capsys.readouterr().out)["problems"]] == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (
            "{systemd: poll, swap_limit: 80%}",
            (
                "units' own settings (poll): ManagedOOMSwap=kill above 80% of memory and of swap,"
                " ManagedOOMMemoryPressure=kill above 60% for 30s unless a unit says otherwise"
            ),
        ),
        (
            "{pressure_limit: 50%}",
            "units' own settings: not honoured (managed.systemd is off; --managed turns them on)",
        ),
    ],
)
def test_units_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    """In words, where they count; and that they do not, where somebody has set limits for them."""
    path = tmp_path / "oomd.yaml"
    path.write_text(f"managed: {text}\n" if text else "", encoding="utf-8")
    assert main(["check", "--config", str(path)]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("units' own settings")]
    assert [line.startswith(words) for line in found] == ([True] if words else [])
    assert main(["check", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["managed"] == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["control socket: root and oomd's own user may ask; root and oomd's own user may change things"]),
        ("{enabled: false}", ["control socket: none"]),
        ("{group: root}", ["control socket: root and oomd's own user and members of the group root may ask; root"]),
        ("{group: no-such-group}", ["control socket: ", "  but there is no group 'no-such-group' on this machine"]),
    ],
)
def test_who_may_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]) -> None:
    """By the control socket, in words; and a group that there is not."""
    path = tmp_path / "oomd.yaml"
    path.write_text(f"control: {text}\n" if text else "", encoding="utf-8")
    assert main(["check", "--config", str(path)]) == 0
    out = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(out) if line.startswith("control socket"))
    assert all(line.startswith(word) for line, word in zip(out[at:], words, strict=False))
    assert main(["check", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["control"] == out[at : at + len(words)]


@pytest.mark.parametrize("group", ["4294967295", "99999999999999", "a b", "a:b", '"\\a"'])
def test_what_is_no_group(tmp_path: Path, capsys: pytest.CaptureFixture[str], group: str) -> None:
    """Its place is told."""
    path = tmp_path / "oomd.yaml"
    path.write_text(f"control: {{group: {group}}}\n", encoding="utf-8")
    assert main(["check", "--config", str(path)]) == 2
    assert f"{path}:1:18: control.group: " in capsys.readouterr().err


def test_metrics_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who can read them is said, and loudly where it is anybody."""
    path = tmp_path / "oomd.yaml"
    listen = "127.0.0.1:9779, unix:/run/oomd/m.sock, :9779"
    path.write_text(f'metrics: {{listen: "{listen}", textfile: /n/oomd.prom}}\n', encoding="utf-8")
    assert main(["check", "--config", str(path), "--json"]) == 0
    words = json.loads(capsys.readouterr().out)["metrics"]
    assert [line.partition(", to ")[2][:14] for line in words] == [
        "everybody on t",
        "whoever may re",
        "EVERYBODY who ",
        "",
    ]
    assert "/n/oomd.prom" in words[-1]
    assert main(["check", "--config", str(path)]) == 0
    assert "\n".join(words) in capsys.readouterr().out


def test_patterns_show_whom_they_hit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each pattern with the live processes that it hits now."""
    mine = psutil.Process().name()[:15]
    path = tmp_path / "oomd.yaml"
    path.write_text(f"avoid: ['{mine[:3]}*', 'nobody-is-called-so']\n", encoding="utf-8")
    assert main(["check", "--config", str(path), "--json"]) == 0
    hits = {hit["pattern"]: hit for hit in json.loads(capsys.readouterr().out)["patterns"]}
    assert psutil.Process().pid in hits[f"{mine[:3]}*"]["pids"]
    assert hits["nobody-is-called-so"]["pids"] == []
    assert main(["check", "--config", str(path)]) == 0
    assert "nobody-is-called-so: nobody now" in capsys.readouterr().out


def test_matches_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Conditions are said and shown with whom they hit; embedded names with whose processes they count for."""
    path = tmp_path / "oomd.yaml"
    mine = os.path.realpath(sys.executable)
    path.write_text(f"protect: [default, {{exe: {mine}, cmdline: '*pytest*'}}]\nprefer: [{{unit: a, user: root}}]")
    assert main(["check", "--config", str(path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    words = f"executable {mine} and command line *pytest*"
    hits = {hit["pattern"]: hit for hit in answer["patterns"]}
    assert os.getpid() in hits[words]["pids"]
    assert answer["preferences"][0].startswith(
        f"never killed: {words}; root's processes and system services named init,"
    )
    assert answer["preferences"][1] == "killed first: unit a and user root"
    assert answer["preferences"][3] == "killed never: cgroups of root's that are marked user.oomd_omit"
    assert main(["check", "--config", str(path)]) == 0
    assert "killed when nobody else is left: nobody" in capsys.readouterr().out


def test_unknown_users_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No mistake, as the same file may serve several machines; but a slip of the pen would protect nobody."""
    path = tmp_path / "oomd.yaml"
    path.write_text("protect: [{user: rooot}, {user: root, name: nobody-is-called-so}]\n", encoding="utf-8")
    assert main(["check", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "user rooot: nobody; this machine has no user rooot" in out
    assert out.count("this machine has no user") == 1
    assert main(["check", "--config", str(path), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["patterns"]
    assert [hit["unknown_users"] for hit in hits if hit["list"] == "protect"] == [["rooot"], []]


def test_every_exit_is_said_and_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What every_exit means, and whether SIGKILLs can be traced by whoever asks; nothing is said where it is off."""
    path = tmp_path / "oomd.yaml"
    path.write_text("reap: {every_exit: pressure}\n", encoding="utf-8")
    assert main(["check", "--config", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["every_exit"] == {"mode": "pressure", "lost": why_not_traced()}
    assert said["config"]["reap"]["every_exit"] == "pressure"
    assert main(["check", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "what anybody else SIGKILLs is reaped as well, while memory is short" in out
    assert ("SIGKILLs cannot be traced" in out) == bool(why_not_traced())
    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["every_exit"] == {"mode": "off", "lost": ""}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A recorded machine: 8 GiB, 300 MiB available, three processes."""
    tree = ProcTree(tmp_path / "proc")
    tree.set_meminfo(total=8 * GIB, available=300 * MIB, anon=6 * GIB)
    tree.set_pressure(0, 0)
    tree.add_process(1, comm="init", rss_anon=10 * MIB)
    tree.add_process(50, comm="database", rss_anon=3 * GIB, private=100 * MIB)
    tree.add_process(60, comm="leaker", rss_anon=2 * GIB)
    tree.add_process(70, comm="sshd", rss_anon=5 * MIB)
    return tmp_path


def test_explain_another_tree(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--proc`` points the readers at a recorded machine; sharing is told apart there too."""
    assert main(["explain", "--proc", str(machine / "proc"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["version"] == 1
    assert answer["decision"]["action"] == "term"
    assert answer["decision"]["target"]["comm"] == "leaker"
    assert [each["comm"] for each in answer["ranking"]] == ["leaker", "database"]
    assert {each["comm"]: each["why"] for each in answer["rejected"]} == {
        "init": "pid 1 is never killed",
        "sshd": "is protected by its name sshd*",
    }


def test_explain_in_words(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people: the memory, each ruleset with its evidence, the order, the spared."""
    assert main(["explain", "--proc", str(machine / "proc")]) == 0
    out = capsys.readouterr().out
    assert "memory: 300 MiB of 6.3 GiB available" in out
    assert "ruleset level: fired" in out
    assert "1. leaker (60) gives back 2.0 GiB [its own, by smaps_rollup]" in out
    assert "sshd (70, 5.0 MiB) is protected by its name" in out


def test_explain_with_a_budget_of_a_cgroup(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--cgroup`` points the budget at a recorded cgroup tree."""
    cgroups = CgroupTree(machine / "cgroup")
    cgroups.add_group("/job", anon=900 * MIB, shmem=50 * MIB, swap=20 * MIB)
    arguments = ["--proc", str(machine / "proc"), "--cgroup", str(machine / "cgroup"), "--scope", "cgroup:/job"]
    assert main(["explain", *arguments, "--budget", "1GiB", "--json"]) == 0
    budget = json.loads(capsys.readouterr().out)["status"]["budget"]
    assert budget == {"limit_bytes": GIB, "usage_bytes": 970 * MIB, "source": "/job"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--proc", "/no/such/tree"], "/no/such/tree: No such file or directory"),
        (["--cgroup", "/no/such/tree"], "--cgroup /no/such/tree: there is no such folder"),
        (["--scope", "tree:999999999"], "tree:999999999: there is no process 999999999"),
        (["--scope", "uid:x"], "--scope: 'uid:x' is no scope"),
        (["--budget", "much"], "--budget: 'much' does not begin with a number"),
    ],
)
def test_explain_mistakes(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong options end with status 2 and name what is wrong."""
    assert main(["explain", *arguments]) == 2
    assert text in capsys.readouterr().err
