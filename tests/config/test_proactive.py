"""``proactive:`` of the configuration."""

from __future__ import annotations

import pytest

from oomd.commands.check import in_words
from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.loader import default_config, load_config
from oomd.model.config import Config
from oomd.model.proactive import Proactive
from oomd.model.threshold import Threshold
from oomd.model.units import MIB, SECOND_US


def load(text: str) -> Config:
    """The configuration of this text."""
    loaded = load_config("oomd.yaml", text=text.encode())
    assert isinstance(loaded, Config), loaded
    return loaded


def test_off_by_default() -> None:
    """And by its word."""
    assert default_config().rules.proactive is None
    assert load("proactive: off").rules.proactive is None


def test_options() -> None:
    """Beside the rules; written out, loaded again, and on its way to the killer it stays the same."""
    config = load("proactive: {of: '/a/*,/b', every: 10s, share: 2%, least: 5%, most: 64MiB, pressure: 0.5%}")
    assert config.rules.proactive == Proactive(
        "/a/*,/b", 10 * SECOND_US, 0.02, Threshold(share=0.05), Threshold(size_bytes=64 * MIB), 0.005
    )
    assert len(config.rules.rulesets) == 2
    assert load(to_yaml(config)) == config
    assert from_plain(to_plain(config)) == config
    assert in_words(config)[-1].startswith(
        "proactive: every 10s 2% of what is reclaimable, at most 64MiB, is taken from"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proactive: {}", "1:12: proactive: needs 'of': nothing is reclaimed from everybody"),
        ("proactive: {of: a}", "1:17: proactive.of: 'a' is no cgroup"),
        ("proactive: {of: /a, every: 0s}", "proactive.every: should be between 1s and 3600s"),
        ("proactive: {of: /a, share: 80%}", "proactive.share: should be between 0.01% and 50%"),
        ("proactive: {of: /a, pressure: 0%}", "proactive.pressure: should be between 0.01% and 100%"),
        ("proactive: {of: /a, most: 0B}", "1:27: proactive.most: is nothing: no page would ever be taken"),
        ("proactive: {of: /}", "1:17: proactive.of: '/' holds pid 1 and oomd, and is always left alone"),
        ("proactive: {of: /a, swappiness: 3}", "proactive.swappiness: unknown key"),
        ("proactive: [1]", "proactive: should be a mapping"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    """Each with its place."""
    found = load_config("oomd.yaml", text=text.encode())
    assert isinstance(found, list)
    assert any(expected in str(problem) for problem in found), found
    assert len(found) == 1
