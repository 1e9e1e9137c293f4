"""protect, prefer and avoid: names and mappings, every mistake with its place."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.loader import load_config
from oomd.config.preferences import uids_of
from oomd.config.schema import DEFAULT_PROTECT
from oomd.model.config import Config
from oomd.model.matching import KEYS, Match, Term
from oomd.model.ruleset import Names

ME = pwd.getpwuid(os.getuid()).pw_name


def loaded(text: str) -> Config:
    """The configuration of a text that is right."""
    config = load_config("x.yaml", text=text.encode())
    assert isinstance(config, Config), config
    return config


def problems(text: str) -> list[str]:
    """What is wrong with a text."""
    found = load_config("x.yaml", text=text.encode())
    assert not isinstance(found, Config)
    return [str(problem) for problem in found]


TEXT = f"""
protect:
  - default
  - postgres*
  - {{cmdline: "*--important*", user: {ME}}}
  - cmdline: {{regex: '^/opt/app/\\w+ serve'}}
    cgroup: /system.slice/**/app
avoid: [{{unit: gdm}}, {{pod: "*", container: "0123*"}}]
prefer: [{{exe: /usr/bin/chromium}}, chrom*, {{name: firefox}}]
omit: last_resort
"""


def test_matches() -> None:
    """Globs and regular expressions; several keys in one mapping are conditions of one match."""
    preferences = loaded(TEXT).rules.preferences
    assert preferences.protect == Names(
        (*DEFAULT_PROTECT, "postgres*"),
        (
            Match((Term("cmdline", "*--important*"), Term("user", ME, uids=(os.getuid(),)))),
            Match((Term("cmdline", r"^/opt/app/\w+ serve", regex=True), Term("cgroup", "/system.slice/**/app"))),
        ),
        DEFAULT_PROTECT,
    )
    assert preferences.avoid.matches[1].words() == "pod * and container 0123*"
    assert preferences.prefer.patterns == ("chrom*",)
    assert preferences.omit == "last_resort"


def test_effective_text_loads_as_the_same() -> None:
    """Written out in full, and handed to the killer, it is the same; the embedded names stay the embedded ones."""
    config = loaded(TEXT)
    text = to_yaml(config)
    assert loaded(text) == config
    assert "default" in text
    assert "sshd" not in text
    assert from_plain(to_plain(config)) == config


def test_a_name_that_was_written_counts_for_all() -> None:
    """Whoever writes sshd* himself protects everybody of that name."""
    protect = loaded("protect: [default, sshd*]").rules.preferences.protect
    assert "sshd*" not in protect.embedded
    assert protect.own == ("sshd*",)
    assert loaded(to_yaml(loaded("protect: [sshd*, default]"))).rules.preferences.protect.own == ("sshd*",)
    assert loaded("").rules.preferences.protect.own == ()


def test_users() -> None:
    """By name, by number, by pattern; users that do not exist here are nobody."""
    assert uids_of("root") == (0,)
    assert uids_of("4711") == (4711,)
    assert 0 in uids_of("r?ot")
    assert uids_of("^roo", regex=True) == (0,)
    assert uids_of("no-such-user") == uids_of("no-such-*") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("avoid: [{cmdlin: x}]", ["x.yaml:1:10: avoid[0].cmdlin: unknown key (did you mean 'cmdline'?)"]),
        ("avoid: [{cmdline: ''}]", ["x.yaml:1:19: avoid[0].cmdline: is empty"]),
        ("avoid: [{cmdline: [a]}]", ["x.yaml:1:19: avoid[0].cmdline: should be a single value"]),
        (
            "avoid: [{cmdline: {regexp: a}}]",
            ["x.yaml:1:20: avoid[0].cmdline.regexp: unknown key (did you mean 'regex'?)"],
        ),
        ("avoid: [{cmdline: {}}]", ["x.yaml:1:19: avoid[0].cmdline: needs 'regex'"]),
        (
            "avoid:\n- cmdline: {regex: '('}",
            [
                "x.yaml:2:20: avoid[0].cmdline.regex: is no regular expression: missing ), unterminated subpattern at character 1"
            ],
        ),
        (
            "avoid: [{exe: {regex: (a+)+}}]",
            ["x.yaml:1:23: avoid[0].exe.regex: a repeated group, (…)+, is not taken: it could take for ever"],
        ),
        (
            "avoid: [{cgroup: system.slice}]",
            [
                "x.yaml:1:18: avoid[0].cgroup: 'system.slice' is no path of a cgroup: it begins with /, as in /system.slice/web.service"
            ],
        ),
        (
            "avoid: [{name: /usr/bin/a}]",
            [
                "x.yaml:1:16: avoid[0].name: '/usr/bin/a' is a path; a name is the kernel's comm, without folders; exe: has the path"
            ],
        ),
        (
            "avoid: [{}]",
            [
                "x.yaml:1:9: avoid[0]: names no condition; there is: name, cmdline, exe, user, cgroup, unit, container, pod"
            ],
        ),
        ("avoid: [{exe: a}]\nprefer: [{exe: a}]", ["x.yaml:2:10: prefer: 'executable a' is on the list avoid too"]),
        ("protect: {exe: a}", ["x.yaml:1:10: protect: should be a list, is a mapping"]),
        ("omit: sometimes", ["x.yaml:1:7: omit: 'sometimes' is not one of never, last_resort"]),
        (f"avoid: [{{cmdline: {'x' * 1001}}}]", ["x.yaml:1:19: avoid[0].cmdline: is longer than 1000 characters"]),
    ],
)
def test_mistakes(text: str, expected: list[str]) -> None:
    """File, line, column, and what would be right."""
    assert problems(text) == expected


def test_the_example_shows_every_condition() -> None:
    """configs/oomd.yaml names each key of a match."""
    example = (Path(__file__).parents[2] / "configs" / "oomd.yaml").read_text(encoding="utf-8")
    for key in KEYS:
        assert key in example
