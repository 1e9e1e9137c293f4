"""cgroup.freeze: when it is refused, and a real cgroup that stands still and goes on."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kill.freeze import Freeze
from oomd.kill.held import Holder, Pull
from oomd.kill.seats import Onlooker
from oomd.kill.warrant import Refused
from tests.kill.cgroups import PATIENCE_S, Site, text_of
from tests.reap.levers import control_group, find_mount

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fresh one."""
    site = Site(tmp_path)
    yield site
    site.close()


@contextlib.contextmanager
def real_group() -> Iterator[Path]:
    """A cgroup of the kernel's."""
    mount = find_mount("freezer", 2)
    if mount is None or not os.access(f"{mount.point}/cgroup.procs", os.W_OK):
        pytest.skip("no cgroups of version 2 that we may make")
    with control_group(mount) as group:
        yield group


def wait_frozen(group: Path, frozen: str) -> None:
    """Until the kernel says so."""
    end = time.monotonic() + PATIENCE_S
    while f"frozen {frozen}" not in (group / "cgroup.events").read_text("ascii"):
        assert time.monotonic() < end
        os.sched_yield()


def test_one_write(site: Site) -> None:
    """And what it said before; what somebody else has frozen is his, and old kernels know nothing of it."""
    directory = site.add("/a")
    lever = Freeze(site.proc_fd)
    with CgroupDirectory(str(directory)) as cgroup:
        assert lever.aim(cgroup, 0) == ("0", ["1"])
        (directory / "cgroup.freeze").write_text("1\n", "ascii")
        with pytest.raises(Refused, match="is frozen already"):
            lever.aim(cgroup, 0)
        (directory / "cgroup.freeze").unlink()
        with pytest.raises(Refused, match=r"no cgroup\.freeze"):
            lever.aim(cgroup, 0)


def test_never_what_is_looked_at(site: Site, tmp_path: Path) -> None:
    """Asked before and after it is frozen."""
    (tmp_path / "sessions").mkdir()
    looked: list[str] = []

    class Watching(Onlooker):
        def why_looked_at(self, path: str, pids: Any) -> str:
            looked.append(path)
            return "somebody looks at it" if len(looked) > 1 else super().why_looked_at(path, pids)

    lever = Freeze(site.proc_fd, lambda proc_fd: Watching(proc_fd, str(tmp_path / "sessions")))
    holder = Holder(lever, site.gate, site.proc_fd, site.debts, site.results)
    holder.start()
    directory = site.add("/a")
    holder.pull(Pull("1", "/a", str(directory), 0, 60, 0, {}))
    (result,) = site.wait()
    assert (result.status, result.why) == ("impossible", "somebody looks at it")
    assert looked == ["/a", "/a"]
    assert text_of(directory / "cgroup.freeze") == "0"
    holder.stop(PATIENCE_S)


@pytest.mark.integration
def test_real_cgroup(site: Site, tmp_path: Path) -> None:
    """It stands still, and goes on when it is let go of; one that is frozen by another hand is left so."""
    (tmp_path / "sessions").mkdir()
    with real_group() as group:
        pid = site.child()
        site.join(group, pid)
        lever = Freeze(site.proc_fd, lambda proc_fd: Onlooker(proc_fd, str(tmp_path / "sessions")))
        holder = Holder(lever, site.gate, site.proc_fd, site.debts, site.results)
        holder.start()
        pull = Pull("1", "/a", str(group), 0, 60, 0, {})
        holder.pull(pull)
        assert site.wait()[0].status == "done"
        wait_frozen(group, "1")
        holder.let_go("1", "enough")
        assert site.wait()[0].status == "put_back"
        wait_frozen(group, "0")
        (group / "cgroup.freeze").write_text("1", "ascii")
        holder.pull(pull)
        assert site.wait()[0].why == "is frozen already"
        holder.stop(PATIENCE_S)
        assert text_of(group / "cgroup.freeze") == "1"
        (group / "cgroup.freeze").write_text("0", "ascii")
        site.end(pid)
