"""The plan of the house, as far as import-linter cannot say it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from oomd import detectors, policies
from oomd.config.compiled import modules_of
from oomd.config.loader import default_config

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "oomd").rglob("*.py"))
MOST_LINES = 400
MOST_FUNCTION_LINES = 45

ONLY_HERE = {
    "ctypes": {"oomd/kernel/syscalls.py"},
    "_ctypes": {"oomd/kernel/foreign.py"},
    "yaml": {
        "oomd/config/ladders.py",
        "oomd/config/hooks.py",
        "oomd/config/lmkd.py",
        "oomd/config/loader.py",
        "oomd/config/proactive.py",
        "oomd/config/nodes.py",
        "oomd/config/rulesets.py",
        "oomd/config/effective.py",
        "oomd/config/preferences.py",
        "oomd/config/telling.py",
        "oomd/replay/meta.py",
    },
    "systemd": {"oomd/outside/journal.py"},
    "jeepney": {"oomd/outside/dbus.py"},
    "prometheus_client": {"oomd/outside/metrics/exposition.py"},
}
"""Who may know what: the YAML nodes are walked by three modules of one package."""

KILLER_MODULES = [
    "oomd",
    "oomd.act",
    "oomd.climbing",
    "oomd.companion",
    "oomd.config",
    "oomd.config.compiled",
    "oomd.daemon",
    "oomd.detectors",
    "oomd.detectors.pressure",
    "oomd.detectors.subjects",
    "oomd.detectors.thresholds",
    "oomd.engine",
    "oomd.engine.aftermath",
    "oomd.engine.aims",
    "oomd.engine.blame",
    "oomd.engine.calm",
    "oomd.engine.credit",
    "oomd.engine.detection",
    "oomd.engine.eligibility",
    "oomd.engine.holding",
    "oomd.engine.ladder",
    "oomd.engine.levels",
    "oomd.engine.marks",
    "oomd.engine.names",
    "oomd.engine.nobody",
    "oomd.engine.pacing",
    "oomd.engine.patterns",
    "oomd.engine.pause",
    "oomd.engine.preferences",
    "oomd.engine.proactive",
    "oomd.engine.reflex",
    "oomd.engine.selection",
    "oomd.engine.shortage",
    "oomd.foresight",
    "oomd.hastening",
    "oomd.hooking",
    "oomd.image",
    "oomd.kernel",
    "oomd.kernel.arc",
    "oomd.kernel.cgroup",
    "oomd.kernel.cgroup_dir",
    "oomd.kernel.cgroup_files",
    "oomd.kernel.cgroup_levers",
    "oomd.kernel.cgroup_namespace",
    "oomd.kernel.features",
    "oomd.kernel.files",
    "oomd.kernel.foreign",
    "oomd.kernel.kin",
    "oomd.kernel.loadavg",
    "oomd.kernel.maps",
    "oomd.kernel.meminfo",
    "oomd.kernel.numbers",
    "oomd.kernel.pidfd",
    "oomd.kernel.pids",
    "oomd.kernel.process",
    "oomd.kernel.psi",
    "oomd.kernel.sched",
    "oomd.kernel.scope",
    "oomd.kernel.smaps",
    "oomd.kernel.swaps",
    "oomd.kernel.syscalls",
    "oomd.kernel.threads",
    "oomd.kernel.vmstat",
    "oomd.kernel.zoneinfo",
    "oomd.kernel.zram",
    "oomd.kill",
    "oomd.kill.cgroup_kill",
    "oomd.kill.executor",
    "oomd.kill.forgetting",
    "oomd.kill.members",
    "oomd.kill.tally",
    "oomd.kill.targets",
    "oomd.kill.warrant",
    "oomd.kill.whole",
    "oomd.ladders",
    "oomd.loop",
    "oomd.model",
    "oomd.model.config",
    "oomd.model.decision",
    "oomd.model.globs",
    "oomd.model.history",
    "oomd.model.hooks",
    "oomd.model.managed",
    "oomd.model.matching",
    "oomd.model.placement",
    "oomd.model.proactive",
    "oomd.model.report",
    "oomd.model.ruleset",
    "oomd.model.scope",
    "oomd.model.snapshot",
    "oomd.model.steps",
    "oomd.model.telling",
    "oomd.model.threshold",
    "oomd.model.units",
    "oomd.model.values",
    "oomd.model.wildcards",
    "oomd.monitor",
    "oomd.monitor.bound",
    "oomd.monitor.census",
    "oomd.monitor.cgroups",
    "oomd.monitor.details",
    "oomd.monitor.effort",
    "oomd.monitor.facts",
    "oomd.monitor.families",
    "oomd.monitor.lag",
    "oomd.monitor.newcomers",
    "oomd.monitor.notify",
    "oomd.monitor.own_shmem",
    "oomd.monitor.past",
    "oomd.monitor.podium",
    "oomd.monitor.process_table",
    "oomd.monitor.ration",
    "oomd.monitor.rest",
    "oomd.monitor.rows",
    "oomd.monitor.sampler",
    "oomd.monitor.selfcheck",
    "oomd.monitor.sharers",
    "oomd.monitor.sharing",
    "oomd.monitor.touches",
    "oomd.monitor.usage",
    "oomd.monitor.waiter",
    "oomd.monitor.watch",
    "oomd.options",
    "oomd.orders",
    "oomd.outside",
    "oomd.outside.link",
    "oomd.outside.plain",
    "oomd.outside.spawn",
    "oomd.overtaking",
    "oomd.parts",
    "oomd.pausing",
    "oomd.policies",
    "oomd.policies.culprit",
    "oomd.policies.freeable",
    "oomd.policies.ranking",
    "oomd.proactive",
    "oomd.reap",
    "oomd.reap.backends",
    "oomd.reap.bell",
    "oomd.reap.crowd",
    "oomd.reap.crowds",
    "oomd.reap.dying",
    "oomd.reap.expedite",
    "oomd.reap.expedited",
    "oomd.reap.hindrance",
    "oomd.reap.motion",
    "oomd.reap.mrelease",
    "oomd.reap.none",
    "oomd.reap.pool",
    "oomd.reap.results",
    "oomd.reap.urgency",
    "oomd.reap.workers",
    "oomd.rehearsal",
    "oomd.reload",
    "oomd.rounds",
    "oomd.search",
    "oomd.status",
    "oomd.trimming",
    "oomd.ward",
]
"""Every module of ours that the running killer has loaded; one more is a decision, not an accident."""

NEVER_IN_THE_KILLER = {
    "yaml",
    "jeepney",
    "psutil",
    "prometheus_client",
    "systemd",
    "array",
    "ast",
    "collections",
    "collections.abc",
    "contextlib",
    "ctypes",
    "dataclasses",
    "dis",
    "enum",
    "fnmatch",
    "functools",
    "inspect",
    "logging",
    "typing",
    "json",
    "argparse",
    "subprocess",
    "socket",
    "asyncio",
    "pickle",
    "queue",
    "re",
    "signal",
    "struct",
    "tempfile",
    "threading",
    "types",
    "urllib",
    "http",
    "encodings.ascii",
    "zlib",
}


def imports_of(path: Path) -> set[str]:
    """The first parts of what a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("library", sorted(ONLY_HERE))
def test_libraries_stay_where_they_are(library: str) -> None:
    """One place each knows ctypes, systemd and D-Bus, one package YAML."""
    users = {str(path.relative_to(ROOT)) for path in MODULES if library in imports_of(path)}
    assert users == ONLY_HERE[library]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_room_is_too_large(path: Path) -> None:
    """400 lines for a module, 45 for a function, and every module says what it is."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < MOST_FUNCTION_LINES, node.name


@pytest.mark.parametrize("declared", [*detectors.ALL, *policies.ALL], ids=lambda declared: declared.name)
def test_every_rule_is_tested_shown_and_named_once(declared: type) -> None:
    """A detector or policy has its test, an example in configs/, and a name of its own among its kind."""
    name = declared.__dict__["name"]
    package, module = declared.__module__.split(".")[1:]
    assert (ROOT / "tests" / package / f"test_{module}.py").exists()
    assert any(name in path.read_text(encoding="utf-8") for path in (ROOT / "configs").glob("*.yaml"))
    kind: tuple[type, ...] = detectors.ALL if package == "detectors" else policies.ALL
    assert [each.__dict__["name"] for each in kind].count(name) == 1


def test_modules_of_the_killer() -> None:
    """The killer's image, with the default configuration, holds these modules of ours, and none of the standard library
    that blocks or weighs much.
    """
    rules = modules_of(default_config())
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import oomd.image;"
        f"from oomd.config.compiled import load; load({rules!r}); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stdout.split())
    assert sorted(name for name in loaded if name.split(".")[0] == "oomd") == sorted(KILLER_MODULES)
    assert loaded & NEVER_IN_THE_KILLER == set()


def test_modules_of_the_killer_as_lmkd() -> None:
    """What lmkd's part brings besides is nothing that blocks or weighs much, and nothing of other parts."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import oomd.image, oomd.android; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.split(".")[0] == "oomd"} - set(KILLER_MODULES)
    assert {name for name in ours if not name.startswith("oomd.lmkd")} == {
        "oomd.android",
        "oomd.kill.importance",
        "oomd.model.lmkd_properties",
        "oomd.standin",
    }
    assert "oomd.lmkd.listening" not in ours
    assert loaded & NEVER_IN_THE_KILLER - {"struct"} == set()  # packets


NEVER_BEFORE_THE_KILLER = {
    *("ast", "dataclasses", "difflib", "inspect", "ipaddress", "shutil", "typing", "yaml"),
    *("oomd.debts", "oomd.kernel.tracefs", "oomd.lmkd.listening", "oomd.outside.recording"),
}
"""What `oomd run` does not need unless something asks for it, and would be late by."""


def test_modules_of_the_first_stage() -> None:
    """Without a file of configuration neither YAML nor what is slow to load stands between exec and READY."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import oomd.commands.run;"
        "from oomd.commands.line import build_parser;"
        "from oomd.config.loader import load_config; build_parser('run').parse_args(['run']);"
        "load_config(None, overrides={'scope': 'machine', 'dry_run': 'true'}); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert set(done.stdout.split()) & NEVER_BEFORE_THE_KILLER == set()


BEFORE_THE_FORK = {
    *("oomd", "oomd.__main__", "oomd.commands", "oomd.commands.scout", "oomd.model", "oomd.model.values"),
    *("__future__", "_operator", "_socket", "fcntl", "gc", "resource"),
    *("_collections_abc", "_stat", "genericpath", "os", "os.path", "posixpath", "stat"),
}
"""What `oomd run` loads before it forks: the killer's image and the scout both wait for it."""


def test_modules_before_the_fork() -> None:
    """Hardly any: neither argparse nor a word of the configuration."""
    code = (
        f"import sys; before = set(sys.modules); sys.path[:0] = [{str(ROOT)!r}];"
        "import oomd.__main__, oomd.commands.scout; print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert set(done.stdout.split()) <= BEFORE_THE_FORK
