"""``hooks:``: programs that are run before and after a kill."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.hooks import in_words
from oomd.config.loader import load_config
from oomd.model.config import Config
from oomd.model.hooks import NO_HOOKS, Hook, Hooks
from oomd.model.units import MILLISECOND_US, SECOND_US
from tests.config.test_loader import loaded, problems

if TYPE_CHECKING:
    from pathlib import Path

TRUE = os.path.realpath("/bin/true")
RULES = "[{name: a, when: {all: [{memory_available: {below: 5%%}}]}%s}]"


def test_nothing_is_run_unasked(tmp_path: Path) -> None:
    """Neither without the key nor with an empty one."""
    for text in ("", "hooks: {}", "hooks: {before: }"):
        assert loaded(tmp_path, text).rules.hooks == NO_HOOKS


def test_everything_is_read_and_written_back(tmp_path: Path) -> None:
    """Program, arguments, deadlines; and what is left out has its default."""
    config = loaded(
        tmp_path,
        f"hooks:\n  before: {{exec: [{TRUE}, --now], deadline: 50ms}}\n  after: {{exec: [{TRUE}]}}\n  prekill: 2s\n",
    )
    hooks = Hooks(Hook((TRUE, "--now"), 50 * MILLISECOND_US), Hook((TRUE,), 10 * SECOND_US), prekill_us=2 * SECOND_US)
    assert config.rules.hooks == hooks
    assert hooks.wait_us == 2 * SECOND_US
    assert loaded(tmp_path, to_yaml(config)) == config
    assert from_plain(to_plain(config)) == config
    before, after, prekill = in_words(hooks)
    assert f"{TRUE} --now (at most 50ms)" in before
    assert f"{TRUE} (at most 10s)" in after
    assert "systemd's prekill hooks (at most 2s)" in prekill


def test_ruleset_has_its_own(tmp_path: Path) -> None:
    """In the place of those for all; none at all is another thing than nothing said."""
    text = f"""
hooks: {{before: {{exec: [{TRUE}]}}}}
rulesets:
  - {{name: own, when: {{all: [{{memory_available: {{below: 5%}}}}]}}, hooks: {{prekill: 1s}}}}
  - {{name: none, when: {{all: [{{memory_available: {{below: 5%}}}}]}}, hooks: {{}}}}
  - {{name: same, when: {{all: [{{memory_available: {{below: 5%}}}}]}}}}
"""
    config = loaded(tmp_path, text)
    assert config.rules.hooks_of("own") == Hooks(prekill_us=SECOND_US)
    assert config.rules.hooks_of("none") == NO_HOOKS
    assert config.rules.hooks_of("same") == config.rules.hooks_of("of a unit") == config.rules.hooks
    assert loaded(tmp_path, to_yaml(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hooks: [a]", "1:8: hooks: should be a mapping (key: value), is a list"),
        ("hooks: {befor: {}}", "1:9: hooks.befor: unknown key (did you mean 'before'?)"),
        ("hooks: {before: {deadline: 1s}}", "1:17: hooks.before: needs 'exec' (a list: the program and its arguments)"),
        ("hooks: {before: {exec: []}}", "1:24: hooks.before.exec: names no program"),
        ("hooks: {before: {exec: /bin/true}}", "1:24: hooks.before.exec: should be a list, is '/bin/true'"),
        (
            "hooks: {before: {exec: [logger]}}",
            "1:25: hooks.before.exec[0]: 'logger' is no path from the root (nothing is searched for in PATH)",
        ),
        ("hooks: {after: {exec: [/absent]}}", "1:24: hooks.after.exec[0]: there is no program /absent"),
        ("hooks: {after: {exec: [/etc/passwd]}}", "1:24: hooks.after.exec[0]: /etc/passwd is not executable"),
        (
            f"hooks: {{before: {{exec: [{TRUE}], deadline: 2m}}}}",
            f"1:{38 + len(TRUE)}: hooks.before.deadline: should be between 1ms and 60s",
        ),
        ("hooks: {prekill: 2m}", "1:18: hooks.prekill: should be between 1ms and 60s"),
        ("hooks: {prekill: long}", "1:18: hooks.prekill: 'long' does not begin with a number"),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, text: str, message: str) -> None:
    """File, line, column, key, and what would be right."""
    assert [each for each in problems(tmp_path, text) if "names no program" not in each or "[]" in text] == [
        f"oomd.yaml:{message}"
    ]


def test_mistake_of_a_ruleset_has_its_place(tmp_path: Path) -> None:
    """Which ruleset, too."""
    text = "rulesets: " + RULES % ", hooks: {after: {exec: [/absent]}}"
    (problem,) = problems(tmp_path, text)
    assert problem.endswith("rulesets[0].hooks.after.exec[0]: there is no program /absent")


def test_file_that_others_may_write_runs_nothing(tmp_path: Path) -> None:
    """The whole file is refused, not only its hooks; without hooks nobody asks."""
    path = tmp_path / "oomd.yaml"
    path.write_text(f"hooks: {{before: {{exec: [{TRUE}]}}}}\n")
    path.chmod(0o664)
    (problem,) = load_problems(path)
    assert problem == (
        f"{path}:1:8: hooks: would run programs for whoever can change this file: others may write {path} (mode 0664)"
    )
    path.write_text("hooks: {prekill: 1s}\n")
    assert isinstance(load_config(str(path)), Config)


def test_program_that_others_may_write_is_not_run(tmp_path: Path) -> None:
    """Whoever can change the program needs no configuration."""
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o777)
    path = tmp_path / "oomd.yaml"
    path.write_text(f"hooks: {{before: {{exec: [{program}]}}}}\n")
    (problem,) = load_problems(path)
    assert problem == f"{path}:1:25: hooks.before.exec[0]: others may write {program} (mode 0777)"


def test_text_in_the_place_of_a_file_is_only_read(tmp_path: Path) -> None:
    """A recording holds the configuration that was in force; nothing of it is run when it is replayed."""
    text = f"hooks: {{before: {{exec: [{TRUE}, {tmp_path}]}}}}".encode()
    config = load_config("/absent/recording:1", text=text)
    assert isinstance(config, Config)
    assert config.rules.hooks.before is not None


def load_problems(path: Path) -> list[str]:
    """What is wrong with the file."""
    found = load_config(str(path))
    assert isinstance(found, list)
    return [str(each) for each in found]
