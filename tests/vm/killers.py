"""The killers: how each is configured and started in the guest, from its packaged unit or its documentation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.vm.rootfs import OOMD_PREFIX

if TYPE_CHECKING:
    from tests.vm.image import Image

TREE = Path(__file__).resolve().parents[2]
_UNITS = "/etc/systemd/system"
_CONFIG = "/etc/oomd"


@dataclass(frozen=True, slots=True)
class Killer:
    """One contestant."""

    name: str
    unit: str
    package: str
    """Debian's package; empty for ours."""
    configured: str
    files: dict[str, str] = field(default_factory=dict)

    def version(self, image: Image) -> str:
        """As the package or our pyproject says."""
        return image.versions.get(self.package, "") if self.package else our_version()

    def plan(self) -> dict[str, Any]:
        """What the guest needs to know."""
        return {"name": self.name, "unit": self.unit, "files": self.files}


def our_version() -> str:
    """The version in pyproject.toml."""
    for line in (TREE / "pyproject.toml").read_text().splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    raise ValueError("pyproject.toml has no version")


def our_files() -> dict[str, str]:
    """The real unit and the shipped configuration, as ``make install`` lays them."""
    unit = (TREE / "systemd/oomd.service").read_text()
    unit = unit.replace("@BIN@", f"{OOMD_PREFIX}/bin").replace("@CONFIG@", _CONFIG)
    return {
        f"{_UNITS}/oomd.service": unit,
        f"{_UNITS}/systemd-oomd.service.d/oomd.conf": (TREE / "systemd/systemd-oomd-gives-way.conf").read_text(),
        f"{_UNITS}/oomd-metrics.socket": (TREE / "systemd/oomd-metrics.socket").read_text(),
        f"{_CONFIG}/oomd.yaml": (TREE / "configs/oomd.yaml").read_text(),
        # Not where systemd would find it: a check puts it there.
        f"{_CONFIG}/every-exit.conf": (TREE / "systemd/oomd-every-exit.conf").read_text(),
    }


def lmkd_files() -> dict[str, str]:
    """Service, socket and properties of ``oomd lmkd``, as ``make install`` lays them."""
    service = (TREE / "systemd/oomd-lmkd.service").read_text()
    return {
        f"{_UNITS}/oomd-lmkd.service": service.replace("@BIN@", f"{OOMD_PREFIX}/bin").replace("@CONFIG@", _CONFIG),
        f"{_UNITS}/oomd-lmkd.socket": (TREE / "systemd/oomd-lmkd.socket").read_text(),
        f"{_CONFIG}/lmkd.prop": (TREE / "configs/lmkd.prop").read_text(),
    }


def takeover_files() -> dict[str, str]:
    """As ``make takeover`` lays them, with a default of the operator's."""
    service = (TREE / "systemd/systemd-oomd.service").read_text()
    return {
        f"{_UNITS}/systemd-oomd.service": service.replace("@BIN@", f"{OOMD_PREFIX}/bin").replace("@CONFIG@", _CONFIG),
        f"{_UNITS}/systemd-oomd.socket": (TREE / "systemd/systemd-oomd.socket").read_text(),
        "/etc/dbus-1/system.d/oomd-oom1.conf": (TREE / "systemd/oomd-oom1.conf").read_text(),
        f"{_CONFIG}/oomd.yaml": (TREE / "configs/oomd.yaml").read_text() + "\nmanaged: {pressure_duration: 2s}\n",
    }


TAKEOVER = Killer("oomd for systemd-oomd", "systemd-oomd.service", "", "make takeover", takeover_files())
LMKD = Killer("oomd lmkd", "oomd-lmkd.service", "", "its units, its shipped properties", lmkd_files())
REAPS = ("mrelease", "expedite", "expedite-alone", "none")
"""Ways to get the memory back (``--reap``): a backend, or expedite on a kernel without process_mrelease."""


_BY_SIZE = """
rulesets:
  - name: level
    when: {all: [{memory_available: {below: "min(5%, 1GiB)"}}, {swap_free: {below: 10%}}]}
    critical: {all: [{memory_available: {below: "min(2.5%, 512MiB)"}}, {swap_free: {below: 10%}}]}
    choose: {policy: freeable}
    then: [{term: {grace: 5s}}, {kill: {}}]
"""
"""The default rules, but by size: so the victim is the one that is held back, whoever grew last."""


def with_reap(killer: Killer, reap: str, *, by_size: bool) -> Killer:
    """Ours with this backend, and choosing by size if that is right. ``expedite-alone``: a filter answers ENOSYS to
    process_mrelease alone, as a kernel before 5.15 does, and the backend is left to be found out (auto).
    """
    files = dict(killer.files)
    files[f"{_CONFIG}/oomd.yaml"] += _BY_SIZE if by_size else ""
    if reap == "expedite-alone":
        no_mrelease = "[Service]\nSystemCallFilter=\nSystemCallFilter=~process_mrelease\nSystemCallErrorNumber=ENOSYS\n"
        files[f"{_UNITS}/oomd.service.d/old-kernel.conf"] = no_mrelease
    else:
        files[f"{_CONFIG}/oomd.yaml"] += f"\nreap: {{backend: {reap}}}\n"
    return replace(killer, files=files)


def with_rulesets(killer: Killer, rulesets: str) -> Killer:
    """Ours with these rulesets beside the two that it has without being asked."""
    files = dict(killer.files)
    shipped = files[f"{_CONFIG}/oomd.yaml"]
    begin = shipped.index("#rulesets:")
    own = [line.removeprefix("#") for line in shipped[begin:].split("\n\n", 1)[0].splitlines()]
    files[f"{_CONFIG}/oomd.yaml"] = "\n".join([shipped, *own, rulesets.strip("\n")]) + "\n"
    return replace(killer, files=files)


_SLICE_PRESSURE = "[Slice]\nManagedOOMMemoryPressure=kill\n"
OOMD = Killer("oomd", "oomd.service", "", "its unit, its shipped configuration", our_files())
ALL = (
    OOMD,
    Killer("earlyoom", "earlyoom.service", "earlyoom", "Debian's unit and default file"),
    Killer("nohang", "nohang.service", "nohang", "Debian's unit and nohang.conf"),
    Killer(
        "systemd-oomd",
        "systemd-oomd.service",
        "systemd-oomd",
        "Debian's unit; ManagedOOMSwap=kill on the root slice (packaged), "
        "ManagedOOMMemoryPressure=kill on system.slice and user.slice",
        {
            f"{_UNITS}/system.slice.d/oom.conf": _SLICE_PRESSURE,
            f"{_UNITS}/user.slice.d/oom.conf": _SLICE_PRESSURE,
        },
    ),
    Killer("meta-oomd", "oomd.service", "oomd", "Debian's unit and oomd.json"),
)
BY_NAME = {killer.name: killer for killer in ALL}
NAMES = (*BY_NAME, "none")
