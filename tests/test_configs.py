"""Every configuration that ships loads, reads back, and chooses whom it says it would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oomd.__main__ import main
from oomd.config.effective import to_yaml
from oomd.config.loader import load_config
from oomd.model.config import Config
from tests.fakes.proc_tree import GIB, MIB, ProcTree

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
POD = "/kubepods.slice/kubepods-{0}.slice/kubepods-{0}-pod1{1}.slice/cri-containerd-0123456789ab.scope"
GUARANTEED = "/kubepods.slice/kubepods-pod2_2.slice/cri-containerd-0123456789ac.scope"

Crowd = dict[int, dict[str, Any]]

CROWDS: dict[str, tuple[Crowd, list[str]]] = {
    "desktop": (
        {
            10: {"comm": "gnome-shell", "rss_anon": 2000 * MIB, "uid": 1000},
            11: {"comm": "chrome", "rss_anon": 500 * MIB, "uid": 1000, "cmdline": ("chrome", "--type=renderer")},
            12: {"comm": "chrome", "rss_anon": 900 * MIB, "uid": 1000, "cmdline": ("chrome", "--type=gpu-process")},
            13: {"comm": "code", "rss_anon": 1500 * MIB, "uid": 1000},
            14: {"comm": "systemd", "rss_anon": 900 * MIB, "uid": 0},
        },
        ["chrome 11", "code 13", "chrome 12", "gnome-shell 10"],
    ),
    "server": (
        {
            10: {"comm": "nginx", "rss_anon": 3 * GIB, "cgroup": "/system.slice/nginx.service"},
            11: {"comm": "sshd", "rss_anon": 1 * GIB, "cgroup": "/system.slice/ssh.service"},
            12: {"comm": "app", "rss_anon": 1 * GIB, "cgroup": "/system.slice/app.service"},
            13: {"comm": "gc", "rss_anon": 500 * MIB, "cgroup": "/system.slice/db-maintenance.service"},
        },
        ["gc 13", "app 12", "nginx 10"],
    ),
    "database": (
        {
            10: {"comm": "postgres", "rss_anon": 4 * GIB, "uid": 113, "cmdline": ("/usr/bin/postgres", "-D", "/var")},
            11: {"comm": "postgres", "rss_anon": 1 * GIB, "uid": 113, "cmdline": ("postgres: app db idle",)},
            12: {"comm": "report", "rss_anon": 600 * MIB, "uid": 1000},
            13: {"comm": "pg_dump", "rss_anon": 300 * MIB, "uid": 1000},
        },
        ["pg_dump 13", "report 12", "postgres 11"],
    ),
    "build": (
        {
            10: {"comm": "gitlab-runner", "rss_anon": 2 * GIB},
            11: {"comm": "cc1plus", "rss_anon": 900 * MIB, "uid": 1000},
            12: {"comm": "java", "rss_anon": 1 * GIB, "uid": 1000, "cmdline": ("java", "org.gradle.launcher")},
            13: {"comm": "java", "rss_anon": 3 * GIB, "uid": 1000, "cmdline": ("java", "-jar", "other.jar")},
        },
        ["java 12", "cc1plus 11", "java 13"],
    ),
    "kubernetes": (
        {
            10: {"comm": "etcd", "rss_anon": 2 * GIB, "cgroup": POD.format("burstable", 1), "oom_score_adj": -997},
            11: {"comm": "batch", "rss_anon": 100 * MIB, "cgroup": POD.format("besteffort", 2), "oom_score_adj": 1000},
            12: {"comm": "web", "rss_anon": 1 * GIB, "cgroup": POD.format("burstable", 3), "oom_score_adj": 950},
            13: {"comm": "api", "rss_anon": 3 * GIB, "cgroup": POD.format("burstable", 4), "oom_score_adj": 500},
            14: {"comm": "db", "rss_anon": 6 * GIB, "cgroup": GUARANTEED, "oom_score_adj": -997},
            15: {"comm": "kubelet", "rss_anon": 1 * GIB, "cgroup": "/system.slice/kubelet.service"},
        },
        ["batch 11", "web 12", "api 13", "db 14"],
    ),
    "small-board-zram": (
        {
            10: {"comm": "wpa_supplicant", "rss_anon": 200 * MIB},
            11: {"comm": "python3", "rss_anon": 300 * MIB, "cgroup": "/system.slice/home-assistant.service"},
            12: {"comm": "mpd", "rss_anon": 80 * MIB, "uid": 1000},
            13: {"comm": "chromium", "rss_anon": 60 * MIB, "uid": 1000},
        },
        ["chromium 13", "mpd 12", "python3 11"],
    ),
    "oomd": ({10: {"comm": "a", "rss_anon": GIB}, 11: {"comm": "b", "rss_anon": 2 * GIB}}, ["b 11", "a 10"]),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_loads_and_reads_back(path: Path) -> None:
    """No problem in it, and written out in full it is the same."""
    config = load_config(str(path))
    assert isinstance(config, Config), config
    assert load_config("again", text=to_yaml(config).encode()) == config


def test_nobody_is_forgotten() -> None:
    """Each configuration for a kind of machine has its crowd; rules.yaml is a catalogue to copy from."""
    assert {path.stem for path in CONFIGS} - {"rules"} == CROWDS.keys()


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem in CROWDS], ids=lambda path: path.stem)
def test_it_chooses_whom_it_says(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing while there is memory, whatever the stall; then the ranking that its comments promise."""
    crowd, ranking = CROWDS[path.stem]
    trace = tmp_path / "trace"
    for number, available in enumerate((4 * GIB, 4 * GIB, 20 * MIB)):
        tree = ProcTree(trace / str(10 * number) / "proc")
        total = 1 * GIB if path.stem == "small-board-zram" else 16 * GIB
        tree.set_meminfo(total=total, available=min(available, total // 2), anon=total // 2)
        tree.set_pressure(9_000_000 * number, 9_000_000 * number)
        tree.add_process(1, comm="systemd")
        for pid, values in crowd.items():
            tree.add_process(pid, start_ticks=pid, **values)
    assert main(["replay", str(trace), "--config", str(path), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["decision"]["action"] for line in lines] == ["none", "none", "kill"]
    assert [f"{each['comm']} {each['pid']}" for each in lines[2]["ranking"]] == ranking
    assert lines[2]["decision"]["pids"] == [int(ranking[0].split()[1])]


def blocks_of_readme(*keys: str) -> list[str]:
    """The indented blocks that begin with one of these keys."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    found, block = [], ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("    "):
            block += line[4:] + "\n"
        elif line or not block:
            block = ""
        else:
            found += [block] if block.startswith(tuple(f"{key}:" for key in keys)) else []
            block = ""
    return found


def test_examples_of_the_readme() -> None:
    """What README shows of a configuration is one."""
    blocks = blocks_of_readme("rulesets", "level", "choose", "protect", "metrics", "tell", "hooks")
    assert len(blocks) == 8
    for block in blocks:
        indented = "".join(f"    {line}\n" for line in block.splitlines())
        part = f"rulesets:\n  - name: example\n    when: {{all: [{{swap_free: {{below: 5%}}}}]}}\n{indented}"
        loaded = load_config("README.md", text=(part if block.startswith("choose:") else block).encode())
        assert isinstance(loaded, Config), loaded
