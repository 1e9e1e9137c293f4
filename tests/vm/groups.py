"""Rules over real control groups: the cases, as data. ``guest/groupchecks.py`` plays them, one after the other in one
boot; ``test_groups.py`` judges. What systemd's own test of its killer asserts (TEST-55-OOMD) is among them, in our
words and by our rules.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.vm.scenarios import Actor

SLICES = "/work.slice"
APPS = "/user.slice/user-1000.slice/user@1000.service/app.slice"
HIGH = "MemoryHigh=24M"
"""Whoever wants more stalls: this is what makes the pressure."""
MARK = "user.oomd_"


@dataclass(frozen=True, slots=True)
class Case:
    """Some actors in a slice of their own, and the ruleset that looks at it."""

    name: str
    choose: str
    """``choose:`` of the ruleset; ``SLICE`` stands for the slice."""
    actors: tuple[Actor, ...] = ()
    """What is started in the slice; none in a case of the user's manager, which starts its own."""
    marks: dict[str, dict[str, str]] = field(default_factory=dict)
    """Extended attributes by control group (below the slice)."""
    slice_path: str = ""
    hold: str = ""
    """``for:`` of the ruleset."""
    stalls: str = "*"
    """Whose stall in the slice is the alarm."""
    dies: bool = True
    """Whether somebody is waited for to die; else that nobody does is looked at for some seconds."""

    @property
    def path(self) -> str:
        """The slice."""
        return self.slice_path or f"{SLICES}/work-{self.name}.slice"

    def plain(self) -> dict[str, Any]:
        """For the guest."""
        return {**asdict(self), "path": self.path}


def _unit(case: str, options: Actor, *properties: str, service: bool = False) -> Actor:
    options = {"wait_for": f"go-{case}", **options}
    return {
        "options": options,
        "slice": f"work-{case}.slice",
        "unit": f"{case}-{options['name']}",
        "properties": list(properties),
        "service": service,
    }


def _hog(case: str, name: str = "bloat", limit: str = HIGH) -> Actor:
    return _unit(case, {"do": "leak", "name": name, "rate_mib": 40}, limit)


def _chill(case: str) -> Actor:
    return _unit(case, {"do": "steady", "name": "chill", "size_mib": 1})


def _bag(case: str, *properties: str, sessions: bool = False) -> Actor:
    """A small parent in the unit's own group; below it one that hogs and one that does not."""
    children = [
        {"do": "leak", "name": "inner-bloat", "rate_mib": 40, "helpers": 1, "wait_for": f"go-{case}"},
        {"do": "steady", "name": "inner-chill", "size_mib": 1, "wait_for": f"go-{case}"},
    ]
    options = {"do": "bag", "name": "bag", "size_mib": 1, "children": children, "sessions": sessions}
    return _unit(case, options, HIGH, "Delegate=yes", *properties, service=True)


QUICK = (
    Case(
        "chill",
        "{from: [SLICE/*], level: cgroup, recursive: true}",
        (_hog("chill"), _chill("chill")),
    ),
    Case(
        "avoid",
        "{from: [SLICE/*], level: cgroup, recursive: true, policy: resident}",
        (_hog("avoid"), _hog("avoid", "munch", "MemoryHigh=18M"), _chill("avoid")),
        marks={"avoid-bloat.scope": {f"{MARK}avoid": "1"}},
    ),
    Case(
        "oomgroup",
        "{from: [SLICE/*], level: cgroup, recursive: true}",
        (_bag("oomgroup", "OOMPolicy=kill"), _chill("oomgroup")),
    ),
    Case(
        "user",
        f"{{from: [{APPS}/*], level: cgroup, recursive: true, policy: resident}}",
        marks={"bloat.service": {f"{MARK}omit": "1"}},
        slice_path=APPS,
    ),
)
"""Some ten seconds each."""
LONG = (
    Case(
        "omit",
        "{from: [SLICE/*], level: cgroup, recursive: true}",
        (_hog("omit"),),
        marks={"omit-bloat.scope": {f"{MARK}omit": "1"}},
        dies=False,
    ),
    Case(
        "hour",
        "{from: [SLICE/*], level: cgroup}",
        (_hog("hour"), _chill("hour")),
        hold="1h",
        dies=False,
    ),
    Case(
        "recursive",
        "{from: [SLICE/*], level: cgroup, recursive: true}",
        (_bag("recursive", "OOMPolicy=continue"), _chill("recursive")),
    ),
    Case(
        "session",
        "{from: [SLICE], level: session}",
        (_bag("session", "OOMPolicy=continue", sessions=True), _chill("session")),
    ),
    Case(
        "within",
        "{from: [SLICE/*], level: process_in, recursive: true}",
        (_bag("within", "OOMPolicy=continue", sessions=True), _chill("within")),
    ),
    Case(
        "exempt",
        "{from: [/user.slice/*], level: cgroup, recursive: true, policy: resident}",
        marks={"bloat.service": {f"{MARK}omit": "1"}},
        slice_path=APPS,
        stalls="bloat.service",  # it is the largest once it stalls, and perhaps not before
    ),
)


def configuration(cases: tuple[Case, ...]) -> str:
    """One ruleset for each case, and no other. It looks at each unit of the slice: two that hog at once seldom stall
    together where the guest has one slow CPU.
    """
    lines = ["log: {format: journal}", "rulesets:"]
    for case in cases:
        lines += [
            f"  - name: {case.name}",
            f'    when: {{all: [{{pressure: {{of: "{case.path}/{case.stalls}", kind: full, over: 1s, above: 20%}}}}]}}',
            *([f"    for: {case.hold}"] if case.hold else []),
            f"    choose: {case.choose.replace('SLICE', case.path)}",
            "    then: [{kill: {}}]",
            "    pause: 120s",
        ]
    return "\n".join(lines) + "\n"


def _user_service(name: str, **options: Any) -> str:
    text = json.dumps({"name": name, "wait_for": "go-user", **options})
    high = "MemoryHigh=18M" if name == "munch" else HIGH
    return (
        f"[Service]\n{high if name != 'chill' else ''}\n"
        f"ExecStart=/usr/bin/python3 -I -S /job/tests/vm/guest/actors.py '{text}'\n"
    )


USER_MANAGER = {
    "/run/systemd/system/user@.service": """[Service]
User=%i
Type=notify
Slice=user-%i.slice
Delegate=pids memory cpu
RuntimeDirectory=user/%i
Environment=XDG_RUNTIME_DIR=/run/user/%i
ExecStart=/usr/lib/systemd/systemd --user --unit=lab.target
KillMode=mixed
""",
    "/run/systemd/user/lab.target": "[Unit]\nWants=bloat.service munch.service chill.service\n",
    "/run/systemd/user/bloat.service": _user_service("bloat", do="leak", rate_mib=40),
    "/run/systemd/user/munch.service": _user_service("munch", do="leak", rate_mib=40),
    "/run/systemd/user/chill.service": _user_service("chill", do="steady", size_mib=1),
}
"""A real manager of uid 1000, without what a login needs besides (PAM, logind): it makes control groups of its own."""
