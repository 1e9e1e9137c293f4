"""Units' own settings under a real systemd, with oomd in the place of systemd-oomd: the cases, as data.
``guest/managedchecks.py`` plays them in one boot; ``test_managed.py`` judges. They are what systemd's own test of its
killer asserts (TEST-55-OOMD), in our words.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.vm import groups

HIGH = "MemoryHigh=24M"
KILLS = "ManagedOOMMemoryPressure=kill"


@dataclass(frozen=True, slots=True)
class Case:
    """Services in a slice of their own."""

    name: str
    units: dict[str, list[str]]
    """Properties by name; who is limited by memory.high wants more and stalls the slice, who is not sleeps."""
    settings: str
    """Of the slice."""
    dies: str = ""
    """Who; empty where nobody does, for some seconds."""
    told: str = ""
    """What the killer says of the slice's settings."""
    listed: str = ""
    """What oomctl says of them."""

    @property
    def slice(self) -> str:
        """The slice's name."""
        return f"work-{self.name}.slice"

    def plain(self) -> dict[str, Any]:
        """For the guest."""
        return {**asdict(self), "slice": self.slice}


BLOAT = {"bloat": [HIGH], "chill": []}
CASES = (
    Case(
        "default",
        BLOAT,
        f"{KILLS}\nManagedOOMMemoryPressureLimit=20%",
        "bloat",
        "/work.slice/work-default.slice: pressure above 20% for 2s",
        "Memory Pressure Limit: 20.00%\n\t\tMemory Pressure Duration: 2s\n",
    ),
    Case(
        "avoid",
        {"bloat": [HIGH, "ManagedOOMPreference=avoid"], "munch": ["MemoryHigh=18M"], "chill": []},
        f"{KILLS}\nManagedOOMMemoryPressureLimit=20%\nManagedOOMMemoryPressureDurationSec=3s",
        "munch",
        "/work.slice/work-avoid.slice: pressure above 20% for 3s",
        "Memory Pressure Limit: 20.00%\n\t\tMemory Pressure Duration: 3s\n",
    ),
    Case("auto", BLOAT, "ManagedOOMMemoryPressure=auto"),
)


def _user_service(name: str, **options: Any) -> str:
    text = json.dumps({"name": name, "wait_for": "go-user", **options})
    return (
        f"[Service]\n{HIGH if name != 'chill' else ''}\n"
        f"ExecStart=/usr/bin/python3 -I -S /job/tests/vm/guest/actors.py '{text}'\n"
    )


FILES = {
    "/run/systemd/system/user@.service": groups.USER_MANAGER["/run/systemd/system/user@.service"],
    "/run/systemd/user/lab.target": "[Unit]\nWants=bloat.service chill.service\n",
    "/run/systemd/user/bloat.service": _user_service("bloat", do="leak", rate_mib=40),
    "/run/systemd/user/chill.service": _user_service("chill", do="steady", size_mib=1),
    "/run/systemd/user/app.slice.d/oom.conf": f"[Slice]\n{KILLS}\nManagedOOMMemoryPressureLimit=20%\n",
    **{f"/run/systemd/system/{case.slice}": f"[Slice]\n{case.settings}\n" for case in CASES},
}
