"""Gentle steps on real control groups, under a real systemd: the cases, as data. ``guest/ladderchecks.py`` plays them,
one after the other in one boot; ``test_ladders.py`` judges.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tests.vm.groups import SLICES

if TYPE_CHECKING:
    from tests.vm.scenarios import Actor

ABOVE = "80MiB"
"""What a slice may use before its alarm."""


@dataclass(frozen=True, slots=True)
class Case:
    """Some actors in a slice of their own, and a ruleset whose alarm is the size of that slice."""

    name: str
    then: str
    """``then:``; ``SLICE`` stands for the slice."""
    actors: tuple[Actor, ...]
    choose: str = "{from: [SLICE/*], level: cgroup, policy: resident}"
    more: str = ""
    """More keys of the ruleset."""
    watches: str = ""
    """The unit whose control group is watched; the first actor's, where it is empty."""
    watch_s: float = 12.0
    """For how long, at most: until its ladder is over, or it is dead."""
    crash: str = ""
    """``killer`` or ``all``: whom of oomd SIGKILL hits once something is frozen and throttled."""
    proactive: str = ""
    """``proactive:`` of the whole configuration; one case may have it, of its own slice alone."""
    looked_at: bool = False
    """Whether the user of the actors sits in front of the machine."""

    @property
    def path(self) -> str:
        """The slice."""
        return f"{SLICES}/work-{self.name}.slice"

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


def _cold(case: str) -> Actor:
    """It has touched its memory once."""
    return _unit(case, {"do": "leak", "name": "cold", "begin_mib": 120, "limit_mib": 0, "touch": 0})


def _grower(case: str, name: str = "grower", *, limit_mib: int = 200, **more: Any) -> Actor:
    options = {"do": "leak", "name": name, "begin_mib": 20, "rate_mib": 20, "limit_mib": limit_mib, "touch": 0, **more}
    return _unit(case, options, "MemorySwapMax=0")


def _service(case: str, *, limit_mib: int) -> Actor:
    options = {"do": "leak", "name": "svc", "begin_mib": 20, "rate_mib": 20, "limit_mib": limit_mib}
    return _unit(case, options, service=True)


def _crash(case: str) -> tuple[Actor, ...]:
    return (
        _grower(case, "frozen", limit_mib=60),
        _grower(case, "throttled", limit_mib=60),
    )


_CRASH = (
    "[{freeze: {of: SLICE/CASE-frozen.scope, timeout: 1s, at_most: 1h}},"
    " {throttle: {of: SLICE/CASE-throttled.scope, timeout: 1h, at_most: 1h}}]"
)

_BAG: Actor = {
    "do": "bag",
    "name": "bag",
    "size_mib": 1,
    "children": [
        {"do": "leak", "name": "inner-a", "begin_mib": 40, "limit_mib": 120, "rate_mib": 20, "helpers": 3},
        {"do": "steady", "name": "inner-b", "size_mib": 20},
    ],
}

FILLED = "    for: 5s\n"
"""By then the actor has all its memory: one that grows on brings the alarm back, and then it is killed."""
QUICK = (
    Case(
        "reclaim",
        "[{reclaim: {amount: 80MiB, of: SLICE/*, timeout: 10s}}, {kill: {}}]",
        (_cold("reclaim"),),
        more=FILLED,
    ),
    Case("throttle", "[{throttle: {timeout: 8s, at_most: 4s}}]", (_grower("throttle"),)),
    Case("freeze", "[{freeze: {timeout: 8s, at_most: 4s}}]", (_grower("freeze"),)),
    Case("crash", _CRASH, _crash("crash"), crash="killer"),
)
"""Some ten seconds each."""
LONG = (
    Case(
        "pageout",
        "[{reclaim: {amount: 80MiB, timeout: 10s}}, {kill: {}}]",
        (_cold("pageout"),),
        choose="{from: [SLICE/*], level: process, policy: freeable}",
        more=FILLED,
    ),
    Case(
        "whole",
        "[{cgroup_kill: {}}]",
        (_unit("whole", _BAG, "Delegate=yes", service=True),),
    ),
    Case(
        "restart",
        "[{restart_unit: {timeout: 30s}}]",
        (_service("restart", limit_mib=100),),
        more="    pause: 10m\n",
    ),
    Case(
        "thawed",
        "[{freeze: {timeout: 2s, at_most: 1h}}, {restart_unit: {timeout: 30s}}]",
        (_service("thawed", limit_mib=200),),
        more="    pause: 10m\n",
    ),
    Case(
        "cold",
        "[{kill: {}}]",
        (_unit("cold", {"do": "leak", "name": "cold", "begin_mib": 60, "limit_mib": 0, "touch": 0}),),
        proactive="{of: SLICE/*, every: 1s, share: 50%, least: 1MiB, pressure: 90%, io_pressure: 90%}",
    ),
    Case(
        "looked",
        "[{freeze: {timeout: 2s}}, {notify: {}}]",
        (_grower("looked", uid=1000),),
        looked_at=True,
    ),
    Case("both", _CRASH, _crash("both"), crash="all"),
)


def configuration(cases: tuple[Case, ...]) -> str:
    """One ruleset for each case, and no other."""
    lines = ["log: {format: journal}"]
    lines += [f"proactive: {case.proactive.replace('SLICE', case.path)}" for case in cases if case.proactive]
    lines.append("rulesets:")
    for case in cases:
        texts = [text.replace("SLICE", case.path).replace("CASE", case.name) for text in (case.choose, case.then)]
        lines += [
            f"  - name: {case.name}",
            f"    when: {{all: [{{memory_above: {{of: {case.path}, above: {ABOVE}}}}}]}}",
            f"    choose: {texts[0]}",
            f"    then: {texts[1]}",
            *case.more.splitlines(),
        ]
    return "\n".join(lines) + "\n"
