"""Everybody in a cgroup under warrant, on real processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kill.members import MOST_MEMBERS, Members, look_at
from oomd.kill.warrant import Refused
from tests.descriptors import open_descriptors, opened_since
from tests.kill.cgroups import Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fresh one."""
    site = Site(tmp_path)
    yield site
    site.close()


def prove(site: Site, directory: Path, spared: dict[int, str] | None = None) -> list[int]:
    """Whom it has under warrant then."""
    with CgroupDirectory(str(directory)) as cgroup:
        members = Members(site.gate(), site.proc_fd, cgroup, spared)
        try:
            members.prove()
            return sorted(members.warrants)
        finally:
            members.close()


def test_everybody_and_newcomers(site: Site) -> None:
    """Those who were there, those below, and whoever joins later; who has left is given back."""
    directory = site.add("/a")
    site.add("/a/b")
    late = site.child()
    before = open_descriptors()
    with CgroupDirectory(str(directory)) as cgroup:
        members = Members(site.gate(), site.proc_fd, cgroup)
        members.prove()
        first = set(members.warrants)
        assert len(first) == 2
        site.join(directory, late)
        members.prove()
        assert set(members.warrants) == first | {late}
        (directory / "cgroup.procs").write_text(f"{late}\n", "ascii")
        members.prove()
        assert set(members.warrants) == {late, *site.pids(directory / "b")}
        members.close()
    assert opened_since(before) == []


def test_strangers(site: Site) -> None:
    """Out of scope, or spared by a rule: refused, and it is told who it is and why."""
    directory = site.add("/a")
    (pid,) = site.pids(directory)
    with pytest.raises(Refused, match=rf"holds python\S* \({pid}\), which is protected"):
        prove(site, directory, {pid: "is protected"})
    site.join(directory, 1)
    with pytest.raises(Refused, match=r"\(1\), which is pid 1"):
        prove(site, directory)


def test_another_namespace(site: Site) -> None:
    """Its processes show as 0."""
    directory = site.add("/a")
    site.join(directory, 0)
    with pytest.raises(Refused, match="another PID namespace"):
        prove(site, directory)


def test_who_is_gone_is_no_reason(site: Site) -> None:
    """A pid that is listed and means nobody any more, or a zombie, is passed over."""
    directory = site.add("/a")
    gone = site.child()
    site.join(directory, gone)
    site.children[gone].kill()
    os.waitid(os.P_PID, gone, os.WEXITED | os.WNOWAIT)
    assert prove(site, directory) == site.pids(directory)[:1]
    site.end(gone)
    assert prove(site, directory) == site.pids(directory)[:1]
    assert look_at(site.proc_fd, gone) is None


def test_too_many(site: Site) -> None:
    """Each takes a descriptor."""
    directory = site.add("/a")
    site.join(directory, *range(1 << 21, (1 << 21) + MOST_MEMBERS))
    with pytest.raises(Refused, match=f"has {MOST_MEMBERS + 1} processes"):
        prove(site, directory)
