"""meta.yaml of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.replay.meta import Meta, read_meta

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str) -> Meta:
    """The text, read."""
    path = folder / "meta.yaml"
    path.write_text(text, encoding="utf-8")
    return read_meta(str(path))


def test_marks_and_owners(tmp_path: Path) -> None:
    """Paths are those of cgroups with or without the tree's name, or of processes; values keep their text."""
    meta = written(tmp_path, "xattrs: {cgroup/a/b: {user.oomd_avoid: 1}, c: {x: on}}\nowners: {/a: 7, proc/50: 33}")
    assert meta.xattrs == {"/a/b": {"user.oomd_avoid": "1"}, "/c": {"x": "on"}}
    assert (meta.owners, meta.uids) == ({"/a": 7}, {50: 33})
    assert written(tmp_path, "") == Meta()


def test_event(tmp_path: Path) -> None:
    """The pressure event that woke lmkd; most steps have none."""
    assert written(tmp_path, "lmkd: {event: medium}").event == "medium"
    assert written(tmp_path, "lmkd: {}").event == written(tmp_path, "").event == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lmkd: {event: high}", r"meta.yaml:1:15: lmkd.event: 'high' is not one of medium, critical"),
        ("lmkd: {events: medium}", r"meta.yaml:1:8: lmkd.events: unknown key"),
        ("owners: {/a: root}", r"meta.yaml:1:14: owners./a: 'root' is no user id"),
        ("xattrs: {/a: {x: [1]}}", r"meta.yaml:1:18: xattrs./a.x: should be a single value"),
        ("xattrs: [1]", r"meta.yaml:1:9: xattrs: should be a mapping"),
        ("xattrs: {/a: 1}", r"meta.yaml:1:14: xattrs./a: should be a mapping"),
        ("xattrs: {/a: {user.oomd_avoi: 1}}", r"meta.yaml:1:31: xattrs./a.user.oomd_avoi: .* mean 'user.oomd_avoid'\?"),
        ("xattrs: {a: {}, a: {}}", r"meta.yaml:1:17: xattrs.a: is given twice"),
        ("a: [", r"meta.yaml:1:5: is not YAML: expected"),
        ("\0", "is not YAML"),
    ],
)
def test_mistakes_have_their_place(tmp_path: Path, text: str, message: str) -> None:
    """File, line and column."""
    with pytest.raises(ValueError, match=message):
        written(tmp_path, text)


def test_nobody_is_meant(tmp_path: Path) -> None:
    """A path that the step's trees lack is a slip; what killers wrote, and other attributes, are none."""
    for folder in ("cgroup/a/b", "proc/50"):
        (tmp_path / folder).mkdir(parents=True)
    trees = {"proc_dir": str(tmp_path / "proc"), "cgroup_dir": str(tmp_path / "cgroup")}
    path = tmp_path / "meta.yaml"
    path.write_text("xattrs: {/a/b: {user.oomd_ooms: 1, security.x: y}}\nowners: {/: 0, cgroup/a: 7, proc/50: 33}")
    assert read_meta(str(path), **trees).uids == {50: 33}
    path.write_text("xattrs: {/a/c: {user.oomd_omit: 1}}\nowners: {/a/b/c: 7,\n  proc/51: 33}")
    with pytest.raises(ValueError, match="is not in the trees of this step") as caught:
        read_meta(str(path), **trees)
    places = [line.removeprefix(str(path)).split(": is not")[0] for line in str(caught.value).splitlines()]
    assert places == [":1:16: xattrs./a/c", ":2:18: owners./a/b/c", ":3:12: owners.proc/51"]


@given(data=st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Either a Meta or a ValueError that names the file."""
    path = tmp_path_factory.mktemp("meta") / "meta.yaml"
    path.write_bytes(data)
    try:
        assert isinstance(read_meta(str(path)), Meta)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right
