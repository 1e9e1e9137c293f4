"""Configurations that nobody should write, and slips that would do silent harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oomd.config.loader import MOST_VALUES, load_config
from oomd.config.problems import Problem
from oomd.model.config import Config

if TYPE_CHECKING:
    from pathlib import Path

RULE = "rulesets: [{name: a, when: {all: [%s]}}]"
STALLED = "{all: [{pressure: {above: 9%}}]}"


def judged(folder: Path, text: str, **overrides: str) -> Config | list[str]:
    """The configuration, or its problems without the folder."""
    path = folder / "oomd.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = load_config(str(path), overrides=overrides)
    return found if isinstance(found, Config) else [str(each).removeprefix(f"{folder}/") for each in found]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protect:\n#  - mydb\n", "oomd.yaml:1:9: protect: has no value; the empty list is []"),
        ("level: ''", "oomd.yaml:1:8: level: should be a mapping (key: value), is ''"),
        ("budget: 4B", "oomd.yaml:1:9: budget: '4B' is less than 1MiB: is the unit missing?"),
        ("level: {term: 0%}", "oomd.yaml:1:15: level.term: would never hold; level: off drops the ruleset"),
        ("stall: {term: 0%}", "oomd.yaml:1:15: stall.term: should be between 1% and 100%"),
        (
            RULE % "{pressure: {above: 0%}}",
            "oomd.yaml:1:54: rulesets[0].when.all[0].pressure.above: should be between 1% and 100%",
        ),
        (
            RULE % "{pressure: {above: 9%, over: 1h}}",
            "oomd.yaml:1:64: rulesets[0].when.all[0].pressure.over: should be between 500ms and 10s",
        ),
        (RULE % "{}, {pressure: {above: 9%}}", "oomd.yaml:1:35: rulesets[0].when.all[0]: names no detector"),
        (
            f"rulesets: [{{name: a, when: {{any: [{{}}, {STALLED}]}}}}]",
            "oomd.yaml:1:35: rulesets[0].when.any[0]: needs 'all' (a list of detectors)",
        ),
        (f"rulesets: [{{name: '', when: {STALLED}}}]", "oomd.yaml:1:19: rulesets[0].name: is empty"),
        (
            f"rulesets: [{{name: a, choose: {{policy: [x]}}, when: {STALLED}}}]",
            "oomd.yaml:1:39: rulesets[0].choose.policy: should be a single value, is a list",
        ),
        ("prefer: [sshd]", "oomd.yaml:1:10: prefer: 'sshd' has no effect: 'sshd*' is on the list protect"),
        ("prefer: ['sshd*']", "oomd.yaml:1:10: prefer: 'sshd*' has no effect: 'sshd*' is on the list protect"),
        ("prefer: [web]\navoid: ['w*']", "oomd.yaml:1:10: prefer: 'web' has no effect: 'w*' is on the list avoid"),
    ],
)
def test_slips_that_would_do_silent_harm(tmp_path: Path, text: str, message: str) -> None:
    """F13: a configuration that could be read as nothing, or as the opposite of what was meant, is a problem."""
    assert judged(tmp_path, text) == [message]


@pytest.mark.parametrize(
    "text",
    [
        'runtime_dir: "\\UFFFFFFFF"',
        'runtime_dir: "\\U00110000"',
        'runtime_dir: "a\\0b"',
        "%YAML 1." + "9" * 5000 + "\n---\na: b",
        "budget: " + "9" * 5000,
        "budget: " + "9" * 400 + "GiB",
        "level: {grace: " + "9" * 400 + "s}",
        "level: {term: " + "9" * 400 + "%}",
        "scope: tree:" + "9" * 5000,
        "scope: cgroup:/a/../../etc",
        'prefer: ["\\ud800"]',
        '"\\ud800": 1',
        "level: {}\nscope: \x07",
        "\ud800",
    ],
)
def test_nothing_is_raised_and_everything_has_its_place(tmp_path: Path, text: str) -> None:
    """Escapes, numbers and bytes that Python or PyYAML refuse are problems with a place, in one printable line."""
    found = judged(tmp_path, text)
    assert isinstance(found, list)
    assert found[0].startswith("oomd.yaml:")
    assert all(each.isprintable() for each in found)


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    """A short file whose aliases multiply is refused at once, not walked for ever; so is one that holds itself."""
    many = ", ".join(["*p"] * 300)
    groups = ", ".join(["*g"] * 300)
    group = f"&g {{all: [&p {{pressure: {{above: 1%}}}}, {many}]}}"
    bomb = f"rulesets:\n- &r {{name: a, when: {{any: [{group}, {groups}]}}}}\n"
    message = f"oomd.yaml:1:1: has more than {MOST_VALUES} values once its aliases are followed"
    assert judged(tmp_path, bomb + "- *r\n" * 300) == [message]
    assert judged(tmp_path, "rulesets: &a [*a]") == [message]
    assert judged(tmp_path, "level: &a {term: *a}") == [message]


def test_choosing_nothing_is_the_default(tmp_path: Path) -> None:
    """``choose: {}`` is the default policy."""
    found = judged(tmp_path, f"rulesets: [{{name: a, choose: {{}}, when: {STALLED}}}]")
    assert isinstance(found, Config)
    assert found.rules.rulesets[0].policy is not None


def test_aliases_are_followed(tmp_path: Path) -> None:
    """An ordinary alias stands for what it names."""
    found = judged(tmp_path, "level: {grace: &g 2s}\nstall: {grace: *g}")
    assert isinstance(found, Config)
    assert [ruleset.grace_us for ruleset in found.rules.rulesets] == [2_000_000, 2_000_000]


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file saved by an editor that marks it is read as any other."""
    found = judged(tmp_path, "\ufeffdry_run: true")
    assert isinstance(found, Config)
    assert found.dry_run


def test_none_takes_a_budget_back(tmp_path: Path) -> None:
    """``--budget none`` stands above the file's budget."""
    found = judged(tmp_path, "budget: 1GiB", budget="none")
    assert isinstance(found, Config)
    assert found.budget_bytes is None


def test_problem_stays_in_its_line() -> None:
    """A key with a line break cannot fake another problem."""
    assert str(Problem("a\nb", 1, 2, "x\x1b", "bad")) == "a\\nb:1:2: x\\x1b: bad"
