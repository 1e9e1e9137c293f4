"""``then:`` of a ruleset: what it may hold, and what is told of mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oomd.commands.check import in_words
from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.loader import load_config
from oomd.model.config import Config
from oomd.model.steps import FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US

if TYPE_CHECKING:
    from oomd.model.ruleset import Ruleset

RULE = "rulesets: [{name: a, when: {all: [{swap_free: {below: 1%}}]}, REST}]"
CRITICAL = "critical: {all: [{swap_free: {below: 0.5%}}]}"
LADDER = """
      - notify: {timeout: 30s}
      - reclaim: {amount: 64MiB, of: "/a,/b/*", timeout: 5s}
      - throttle: {to: 90%, at_most: 2m}
      - freeze: {at_most: 15s}
      - restart_unit: {unit: nginx}
      - reclaim: {}
      - term: {grace: 2s}
      - cgroup_kill: {}
"""
STEPS = (
    NotifyStep(30 * SECOND_US),
    ReclaimStep(Threshold(size_bytes=64 * MIB), "/a,/b/*", 5 * SECOND_US),
    ThrottleStep(to=0.9, at_most_us=120 * SECOND_US),
    FreezeStep(at_most_us=15 * SECOND_US),
    RestartStep("nginx"),
    ReclaimStep(),
)


def load(ladder: str) -> Config:
    """The configuration of one ruleset with these keys."""
    loaded = load_config("oomd.yaml", text=(RULE.replace("REST", ladder)).encode())
    assert isinstance(loaded, Config), loaded
    return loaded


def ruleset(ladder: str) -> Ruleset:
    """The ruleset."""
    return load(ladder).rules.rulesets[0]


def whole() -> Config:
    """Every step."""
    text = RULE.replace("REST", "choose: {level: cgroup}, then: LADDER")
    flow = ", ".join(f"{{{line.strip().removeprefix('- ')}}}" for line in LADDER.strip().splitlines())
    loaded = load_config("oomd.yaml", text=text.replace("LADDER", f"[{flow}]").encode())
    assert isinstance(loaded, Config), loaded
    return loaded


def test_every_step() -> None:
    """In its order, with its options, and the others at their defaults."""
    (found,) = whole().rules.rulesets
    assert (found.steps, found.grace_us, found.last) == (STEPS, 2 * SECOND_US, "cgroup_kill")


def test_it_survives() -> None:
    """Written out and loaded again, and on its way to the killer."""
    config = whole()
    assert load_config("again.yaml", text=to_yaml(config).encode()) == config
    assert from_plain(to_plain(config)) == config


def test_defaults() -> None:
    """Left out: SIGTERM, then SIGKILL; without a kill nobody is signalled."""
    plain = load_config("oomd.yaml", text=b"rulesets: [{name: a, when: {all: [{swap_free: {below: 1%}}]}}]")
    assert isinstance(plain, Config)
    (found,) = plain.rules.rulesets
    assert (found.steps, found.grace_us, found.last) == ((), 5 * SECOND_US, "kill")
    alone = ruleset("then: [{kill: {}}]")
    assert (alone.steps, alone.grace_us, alone.last) == ((), 0, "kill")
    told = ruleset("then: [{notify: {}}]")
    assert (told.steps, told.last) == ((NotifyStep(),), "")


def test_in_words() -> None:
    """One line for each step, and how it ends."""
    lines = in_words(whole())
    assert lines[0].endswith(": tell people, wait 30s")
    assert lines[1] == "  then, if that is not enough: reclaim 64MiB of /a or /b/*, wait 5s"
    assert lines[6] == "  then, if that is not enough: SIGTERM, SIGKILL to the whole cgroup by cgroup.kill after 2s"
    assert in_words(load("then: [{notify: {}}]"))[-1].startswith("  chosen is the process")


def test_a_mistake_stands_where_its_value_does() -> None:
    """Not where the step begins: in a ladder that is written over many lines that would be another line."""
    text = """
rulesets:
  - name: a
    when: {all: [{swap_free: {below: 1%}}]}
    then:
      - freeze:
          of: /a
          timeout: 1ms
      - restart_unit:
          timeout: 5s
          unit: a/b
"""
    found = load_config("oomd.yaml", text=text.encode())
    assert isinstance(found, list)
    assert [(each.line, each.column, each.path.rpartition(".")[2]) for each in found] == [
        (8, 20, "timeout"),
        (11, 17, "unit"),
    ]


@pytest.mark.parametrize("then", ["kill", "{kill: {}}"])
def test_a_ladder_that_is_no_list_is_one_mistake(then: str) -> None:
    """And not an empty one as well."""
    found = load_config("oomd.yaml", text=RULE.replace("REST", f"then: {then}").encode())
    assert isinstance(found, list)
    assert [each.message.partition(",")[0] for each in found] == ["should be a list"]


@pytest.mark.parametrize(
    ("unit", "name"),
    [("nginx", "nginx.service"), ("a.service", "a.service"), ("php8.2-fpm", "php8.2-fpm.service"), ("", "")],
)
def test_a_unit_without_its_kind_is_a_service(unit: str, name: str) -> None:
    """As systemctl takes it; a dot may be part of the name."""
    assert RestartStep(unit).unit_name == name


@pytest.mark.parametrize(
    ("ladder", "expected"),
    [
        ("then: []", "then: has no step: nothing would ever be done"),
        ("then: [{}]", "then[0]: names no step"),
        ("then: [{frieze: {}}]", "then[0].frieze: unknown key (did you mean 'freeze'?)"),
        ("then: [{notify: {}, kill: {}}]", "then[0]: names several steps; each is an item of its own"),
        ("then: [{kill: {}}, {notify: {}}]", "then: kill comes before a gentle step, which would never be reached"),
        ("then: [{term: {}}]", "then: should end in kill or cgroup_kill: a victim may ignore SIGTERM"),
        ("then: [{kill: {}}, {kill: {}}]", "then: should end in term and kill (or cgroup_kill), or in kill alone"),
        ("then: [{kill: {}}, {term: {}}]", "then: should end in term and kill (or cgroup_kill), or in kill alone"),
        ("then: [{cgroup_kill: {}}]", "then: cgroup_kill needs choose: {level: cgroup}"),
        (f"{CRITICAL}, then: [{{notify: {{}}}}]", "critical: has no effect: the ladder does not end in kill"),
        ("then: [{freeze: {at_most: 5h}}, {kill: {}}]", "freeze.at_most: should be between 1s and 3600s"),
        ("then: [{throttle: {to: 5%}}, {kill: {}}]", "throttle.to: should be between 10% and 100%"),
        ("then: [{reclaim: {timeout: 0s}}, {kill: {}}]", "reclaim.timeout: should be between 100ms and 3600s"),
        ("then: [{reclaim: {of: a}}, {kill: {}}]", "reclaim.of: 'a' is no cgroup: it looks like /system.slice/*"),
        ("then: [{reclaim: {amount: 12}}, {kill: {}}]", "reclaim.amount: '12' has no unit"),
        ("then: [{restart_unit: {unit: a/b}}]", "restart_unit.unit: 'a/b' is no name of a unit"),
        ("then: [{restart_unit: {unit: user.slice}}]", "restart_unit.unit: only services can be restarted"),
        ("then: [{restart_unit: {unit: a.timer}}]", "restart_unit.unit: only services can be restarted"),
        ("then: [{restart_unit: {unit: a.socket}}]", "restart_unit.unit: only services can be restarted"),
        ("then: [{restart_unit: {unit: a@}}]", "restart_unit.unit: 'a@' is a template: name one of its services"),
        ("then: [{reclaim: {amount: 0%}}, {kill: {}}]", "reclaim.amount: is nothing: no page would ever be taken"),
        ('then: [{reclaim: {amount: "min(5%, 0B)"}}]', "reclaim.amount: is nothing: no page would ever be taken"),
        ("then: [{reclaim: {of: '/a,/'}}, {kill: {}}]", "reclaim.of: '/' holds pid 1 and oomd"),
        ("then: [{freeze: {of: /}}, {kill: {}}]", "freeze.of: '/' holds pid 1 and oomd, and is always left alone"),
        ("then: [{kill: {grace: 1s}}]", "then[0].kill.grace: unknown key"),
    ],
)
def test_mistakes(ladder: str, expected: str) -> None:
    """Each is told with its place."""
    found = load_config("oomd.yaml", text=(RULE.replace("REST", ladder)).encode())
    assert isinstance(found, list)
    assert any(expected in str(problem) for problem in found), found
    assert all(problem.line == 1 and problem.column > 1 for problem in found)
