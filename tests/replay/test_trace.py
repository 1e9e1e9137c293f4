"""Which steps a folder holds, and what is said of one that is no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.replay.trace import ReplayError, parse_time, read_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_steps_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    """By number, not by name; a tree that a step lacks is that of the step before; other files are left alone."""
    for name in ("0/proc", "10/proc", "2.5/cgroup", "2", ".git"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "README").write_text("")
    steps = read_trace(str(tmp_path))
    assert [(step.number, step.name, step.time_us) for step in steps] == [
        (0, "0", 0),
        (1, "2", 2_000_000),
        (2, "2.5", 2_500_000),
        (3, "10", 10_000_000),
    ]
    assert [step.proc_dir for step in steps] == [str(tmp_path / name / "proc") for name in ("0", "0", "0", "10")]
    assert [bool(step.cgroup_dir) for step in steps] == [False, False, True, True]


def test_marks_belong_to_their_tree(tmp_path: Path) -> None:
    """meta.yaml holds until a step has one of its own, or another cgroup tree."""
    for name in ("0/proc", "0/cgroup/a", "1/proc", "2/cgroup"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "0" / "meta.yaml").write_text("owners: {/a: 7}")
    assert [dict(step.meta.owners) for step in read_trace(str(tmp_path))] == [{"/a": 7}, {"/a": 7}, {}]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "no step in it"),
        (["0/proc", "one/proc"], "one: a step's folder is named by its time in seconds"),
        (["-1/proc"], "-1: a step's folder is named"),
        (["1e3/proc"], "1e3: a step's folder is named"),
        (["1/proc", "1.0/proc"], "1.0: the step 1 has the same time"),
        (["0/cgroup"], "the first step needs proc/"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, folders: list[str], message: str) -> None:
    """Each mistake names its folder."""
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ReplayError, match=message):
        read_trace(str(tmp_path))


def test_trees_are_folders(tmp_path: Path) -> None:
    """A file in the place of a tree is a mistake, not an absent tree; so is a meta.yaml that cannot be read."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "proc").write_text("")
    with pytest.raises(ReplayError, match="is not a folder"):
        read_trace(str(tmp_path))
    with pytest.raises(ReplayError, match="No such file"):
        read_trace(str(tmp_path / "nowhere"))
    (tmp_path / "0" / "proc").unlink()
    (tmp_path / "0" / "proc").mkdir()
    (tmp_path / "0" / "meta.yaml").write_text("owner: {}")
    with pytest.raises(ReplayError, match=r"meta.yaml:1:1: owner: unknown key \(did you mean 'owners'\?\)"):
        read_trace(str(tmp_path))


@given(st.text(max_size=12))
def test_times_are_plain_numbers(name: str) -> None:
    """Whatever the name, it is a time of digits with at most one point, or none at all."""
    time_us = parse_time(name)
    plain = name.replace(".", "", 1)
    if time_us is not None:
        assert plain.isascii()
        assert plain.isdigit()
        assert abs(time_us - float(name) * 1e6) <= max(1, time_us * 1e-9)
