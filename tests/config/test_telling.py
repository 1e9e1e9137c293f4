"""``tell:``: who is told besides the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oomd.config.compiled import from_plain, to_plain
from oomd.config.effective import to_yaml
from oomd.config.telling import in_words
from oomd.model.config import changes_that_need_a_restart
from oomd.model.telling import LowMemoryOptions, TellOptions
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB
from tests.config.test_loader import loaded, problems

if TYPE_CHECKING:
    from pathlib import Path

    from oomd.model.config import Config


def again(folder: Path, config: Config) -> Config:
    """What its own text loads as."""
    return loaded(folder, to_yaml(config))


def test_nobody_is_told_unasked(tmp_path: Path) -> None:
    """Neither without the key nor with an empty one."""
    assert loaded(tmp_path, "").tell == loaded(tmp_path, "tell: {}").tell == TellOptions()
    assert in_words(TellOptions()) == []


def test_everything_is_read_and_written_back(tmp_path: Path) -> None:
    """Each channel by itself, and the limits of the monitor."""
    text = """
tell:
  kmsg: true
  wall: yes
  desktop: on
  low_memory_monitor: {low: 30%, medium: "min(20%, 2GiB)", critical: "min(5%, 512MiB)", pressure: 10%}
"""
    config = loaded(tmp_path, text)
    limits = LowMemoryOptions(
        Threshold(share=0.3), Threshold(share=0.2, size_bytes=2 * GIB), Threshold(share=0.05, size_bytes=512 * MIB), 0.1
    )
    assert config.tell == TellOptions(kmsg=True, wall=True, desktop=True, low_memory_monitor=limits)
    assert again(tmp_path, config) == config
    assert from_plain(to_plain(config)) == config
    first, second = in_words(config.tell)
    assert "kernel log" in first
    assert "terminals" in first
    assert "medium below min(20%, 2GiB)" in second


@pytest.mark.parametrize(
    ("text", "asked"), [("on", True), ("true", True), ("{}", True), ("off", False), ("no", False), ("", False)]
)
def test_monitor_with_its_defaults(tmp_path: Path, text: str, asked: bool) -> None:
    """A plain on is enough."""
    config = loaded(tmp_path, f"tell: {{low_memory_monitor: {text}}}")
    assert config.tell.low_memory_monitor == (LowMemoryOptions() if asked else None)
    assert again(tmp_path, config) == config


def test_a_change_needs_a_restart(tmp_path: Path) -> None:
    """What is told lives in the outside process."""
    before, after = loaded(tmp_path, ""), loaded(tmp_path, "tell: {kmsg: true}")
    assert changes_that_need_a_restart(before, after) == ["tell: changed; that needs a restart"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tell: yes", "1:7: tell: should be a mapping (key: value), is 'yes'"),
        ("tell: {kmesg: true}", "1:8: tell.kmesg: unknown key (did you mean 'kmsg'?)"),
        ("tell: {wall: all}", "1:14: tell.wall: 'all' is neither true nor false"),
        (
            "tell: {low_memory_monitor: soon}",
            "1:28: tell.low_memory_monitor: should be on, off, or limits (low: …, medium: …)",
        ),
        (
            "tell: {low_memory_monitor: {medium: 50%}}",
            (
                "1:37: tell.low_memory_monitor.medium: is above tell.low_memory_monitor.low:"
                " that level would never be told"
            ),
        ),
        (
            "tell: {low_memory_monitor: {pressure: 0%}}",
            "1:39: tell.low_memory_monitor.pressure: should be between 1% and 100%",
        ),
        (
            "tell: {low_memory_monitor: {low: lots}}",
            "1:34: tell.low_memory_monitor.low: 'lots' does not begin with a number",
        ),
    ],
)
def test_mistakes_have_a_place(tmp_path: Path, text: str, message: str) -> None:
    """File, line, column, key, and what would be right."""
    assert problems(tmp_path, text) == [f"oomd.yaml:{message}"]
