"""One run: a scenario, a killer, a guest; and what it measured."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.vm import groups, killers, kubernetes, ladders, managed, qemu, scenarios, telling, wheel
from tests.vm.measure import Figures, measure

if TYPE_CHECKING:
    from tests.vm.groups import Case
    from tests.vm.image import Image

BOOT_ALLOWANCE_S = 120.0
"""Beyond a scenario's own length: boot, start of the actors, power off, on a busy host."""
UNIT_TIMEOUT_S = 500.0
LMKD_TIMEOUT_S = 800.0
LMKD_WATCHDOG = "/run/systemd/system/oomd-lmkd.service.d/watchdog.conf"
KUBERNETES_TIMEOUT_S = 700.0
KUBERNETES_MEMORY_MIB = 768
SUITE_TIMEOUT_S = 1500.0
SUITE_MEMORY_MIB = 4608
"""One of the tests shares 3 GiB among forked processes."""


def run_scenario(
    image: Image,
    name: str,
    killer: str,
    *,
    swap: str | None = None,
    memory_mib: int = 512,
    cpus: int = 1,
    reap: str = "",
    keep: Path | None = None,
) -> Figures:
    """Plays a scenario under a killer and measures it. ``reap``: how our own gets memory back, one of killers.REAPS.
    ``keep``: a folder that gets everything the guest wrote.
    """
    scenario = scenarios.BY_NAME[name]
    swap = swap or scenario.swap
    job: dict[str, Any] = {
        "kind": "scenario",
        "swap": swap,
        "swap_mib": scenarios.swap_mib(swap, memory_mib),
        "actors": scenario.cast(memory_mib),
        "watch": list(scenario.watch),
        "max_s": scenario.max_s,
        "settle_s": scenario.settle_s,
        "prepare": [list(command) for command in scenario.prepare],
        "killer": None,
    }
    disk: dict[str, bytes | Path] = {}
    if killer != "none":
        chosen = killers.BY_NAME[killer]
        chosen = killers.with_reap(chosen, reap, by_size=scenario.largest) if reap else chosen
        if killer == "oomd" and scenario.rulesets:
            chosen = killers.with_rulesets(chosen, scenario.rulesets)
        job["killer"] = chosen.plan()
    if killer == "oomd":
        job["killer"]["site"] = wheel.guest_site(image)
        disk["site"] = wheel.site_folder(image)
    disk["job.json"] = json.dumps(job).encode()
    machine = qemu.Machine(memory_mib, cpus, job["swap_mib"] if swap == "disk" else 0)
    run = qemu.run_guest(image, disk, machine, scenario.max_s + BOOT_ALLOWANCE_S)
    figures = measure(run, scenario, swap, killer)
    if keep is not None:
        _keep(keep, run, figures)
    return figures


def _keep(folder: Path, run: qemu.GuestRun, figures: Figures) -> None:
    for path, content in {**run.out, "console": run.console.encode()}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / "figures.json").write_text(json.dumps(figures.plain(), indent=1))


def check_unit(image: Image) -> qemu.GuestRun:
    """One boot with the real unit under the real systemd; the facts are in checks.json."""
    job = {"kind": "unit", "killer": {**killers.OOMD.plan(), "site": wheel.guest_site(image)}}
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), UNIT_TIMEOUT_S)


def check_groups(image: Image, cases: tuple[Case, ...]) -> qemu.GuestRun:
    """One boot with the real unit and rules over control groups, one case after the other; the facts are in
    groups.json.
    """
    plan = killers.OOMD.plan()
    plan["files"] = {**plan["files"], "/etc/oomd/oomd.yaml": groups.configuration(cases), **groups.USER_MANAGER}
    job = {
        "kind": "groups",
        "killer": {**plan, "site": wheel.guest_site(image)},
        "cases": [case.plain() for case in cases],
    }
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), UNIT_TIMEOUT_S)


def check_ladders(image: Image, cases: tuple[ladders.Case, ...]) -> qemu.GuestRun:
    """One boot with the real unit and gentle steps on control groups; the facts are in ladders.json."""
    plan = killers.OOMD.plan()
    plan["files"] = {**plan["files"], "/etc/oomd/oomd.yaml": ladders.configuration(cases)}
    job: dict[str, Any] = {"kind": "ladders", "killer": {**plan, "site": wheel.guest_site(image)}}
    job |= {"swap": "zram", "swap_mib": 384, "cases": [case.plain() for case in cases]}
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), UNIT_TIMEOUT_S)


def check_lmkd(image: Image, **casts: list[dict[str, Any]]) -> qemu.GuestRun:
    """One boot with oomd in the place of lmkd, by its real units, on the kernel's default swap of a phone (zram); the
    facts are in lmkd.json.
    """
    plan = killers.LMKD.plan()
    # It is stopped for a while, and must not be taken for one that hangs by anybody but its own watchdog process.
    plan["files"] = {**plan["files"], LMKD_WATCHDOG: "[Service]\nWatchdogSec=10min\n"}
    job: dict[str, Any] = {"kind": "lmkd", "killer": {**plan, "site": wheel.guest_site(image)}}
    job |= {"swap": "zram", "swap_mib": 128, **casts}
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), LMKD_TIMEOUT_S)


def check_managed(image: Image) -> qemu.GuestRun:
    """One boot with oomd in the place of systemd-oomd; the facts are in managed.json."""
    plan = killers.TAKEOVER.plan()
    plan["files"] = {**plan["files"], **managed.FILES}
    job: dict[str, Any] = {"kind": "managed", "killer": {**plan, "site": wheel.guest_site(image)}}
    job["cases"] = [case.plain() for case in managed.CASES]
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), UNIT_TIMEOUT_S)


def check_telling(image: Image) -> qemu.GuestRun:
    """One boot with every channel and hook; the facts are in telling.json."""
    plan = killers.OOMD.plan()
    plan["files"] = {**plan["files"], **telling.FILES}
    job: dict[str, Any] = {"kind": "telling", "killer": {**plan, "site": wheel.guest_site(image)}}
    job |= {"programs": [telling.BEFORE, telling.AFTER], "sockets": telling.SOCKETS}
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "site": wheel.site_folder(image)}
    return qemu.run_guest(image, disk, qemu.Machine(), UNIT_TIMEOUT_S)


def check_kubernetes(image: Image) -> qemu.GuestRun:
    """One boot as a Kubernetes node, with oomd in a container; the facts are in kubernetes.json."""
    disk: dict[str, bytes | Path] = {"job.json": json.dumps(kubernetes.job(wheel.guest_site(image))).encode()}
    disk["site"] = wheel.site_folder(image)
    return qemu.run_guest(image, disk, qemu.Machine(KUBERNETES_MEMORY_MIB), KUBERNETES_TIMEOUT_S)


def run_suite(image: Image, arguments: list[str], *, memory_mib: int = SUITE_MEMORY_MIB) -> qemu.GuestRun:
    """The tests of the tree that touch the kernel, inside the guest, with swap; pytest's words are in the file
    ``pytest``.
    """
    job = {"kind": "suite", "swap": "zram", "swap_mib": memory_mib // 2, "site": wheel.guest_site(image)}
    job["arguments"] = arguments or ["tests/integration", "tests/reap", "tests/kill"]
    with tempfile.TemporaryDirectory(prefix="oomd-suite-") as name:
        tree = Path(name) / "tree"
        shutil.copytree(killers.TREE / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__", "vm"))
        shutil.copy(killers.TREE / "pyproject.toml", tree)
        disk: dict[str, bytes | Path] = {"job.json": json.dumps(job).encode(), "tree": tree}
        disk["site"] = wheel.site_folder(image)
        return qemu.run_guest(image, disk, qemu.Machine(memory_mib), SUITE_TIMEOUT_S)
