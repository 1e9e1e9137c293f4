"""Our place in the machine's tree of cgroups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.kernel import cgroup_namespace
from oomd.kernel.cgroup import find_cgroup2_mount
from oomd.kernel.cgroup_levers import parse_lever_mounts, parse_memberships
from oomd.kernel.cgroup_namespace import absolute_path, enter_namespace, find_namespace_root, is_beyond, namespace_root
from oomd.kernel.process import parse_cgroup, parse_cgroup_v2

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
OURS = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-2.scope"


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    """Whatever a test enters holds for the whole process."""
    before = namespace_root()
    yield
    enter_namespace(before)


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/", OURS),
        ("/inner/one", f"{OURS}/inner/one"),
        ("/..", "/kubepods.slice/kubepods-pod1.slice"),
        ("/../cri-containerd-3.scope", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-3.scope"),
        ("/../../../init.scope", "/init.scope"),
        ("/../../..", "/"),
        ("/../../../..", "/../../../.."),
    ],
)
def test_own_names(called: str, name: str) -> None:
    """Up to our place and down again; what is above the top stays as it is."""
    enter_namespace(OURS)
    assert namespace_root() == OURS
    assert absolute_path(called) == name
    enter_namespace("")
    assert absolute_path(called) == called
    assert namespace_root() == ""


def test_every_reader_knows_it() -> None:
    """Of processes (version 2 only), and of what is mounted where."""
    enter_namespace(OURS)
    text = b"4:memory:/../a\n0::/../../../system.slice/cron.service\n"
    assert parse_cgroup_v2(text) == "/system.slice/cron.service"
    assert parse_cgroup(text) == "/system.slice/cron.service"
    assert {path for _, path in parse_memberships(text)} == {"/../a", "/system.slice/cron.service"}
    mounts = (
        b"30 29 0:25 / /sys/fs/own rw - cgroup2 cgroup rw\n31 29 0:25 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
    )
    assert [mount.root for mount in parse_lever_mounts(mounts)] == [OURS, "/"]
    assert find_cgroup2_mount(mounts) == "/sys/fs/cgroup"
    assert is_beyond("/../x")
    assert not is_beyond("/x")


FINDS = """
import json, os, sys
with open(sys.argv[1] + sys.argv[2] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.execvp("unshare", ["unshare", "--cgroup", sys.executable, "-c", '''
import json, sys
from oomd.kernel.cgroup_namespace import enter_namespace, find_namespace_root
from oomd.kernel.process import parse_cgroup_v2
called = [parse_cgroup_v2(open(f"/proc/{pid}/cgroup", "rb").read()) for pid in ("self", 1)]
enter_namespace(find_namespace_root(sys.argv[1]))
names = [parse_cgroup_v2(open(f"/proc/{pid}/cgroup", "rb").read()) for pid in ("self", 1)]
print(json.dumps([find_namespace_root(sys.argv[1]), called, names]))
''', sys.argv[1]])
"""


@pytest.mark.integration
def test_found_in_the_machines_tree() -> None:
    """In a namespace of its own a process finds itself, and everybody's name."""
    mount = find_cgroup2_mount(Path("/proc/self/mountinfo").read_bytes())
    if mount is None or not os.access(f"{mount}/cgroup.procs", os.W_OK):
        pytest.skip("needs root, and cgroups of version 2")
    name = f"/oomd-test-{uuid.uuid4().hex}"
    inner = f"{name}/inner"
    os.makedirs(mount + inner)
    try:
        command = [sys.executable, "-c", FINDS, mount, inner]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
        found, called, names = json.loads(done.stdout)
        assert found == inner
        assert called[0] == "/"
        assert called[1].startswith("/..")
        assert names == [inner, parse_cgroup_v2(Path("/proc/1/cgroup").read_bytes())]
    finally:
        os.rmdir(mount + inner)
        os.rmdir(mount + name)


def test_where_nothing_is_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first namespace nobody looks; a tree without us, or that begins with us, is no help; nor is a huge one."""
    monkeypatch.setattr(cgroup_namespace, "INITIAL_INODE", os.stat("/proc/self/ns/cgroup").st_ino)
    assert find_namespace_root("/nowhere") == ""
    monkeypatch.setattr(cgroup_namespace, "INITIAL_INODE", 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cgroup.procs").write_text("1\n", encoding="ascii")
    assert find_namespace_root(str(tmp_path)) == ""
    own = parse_cgroup_v2(Path("/proc/self/cgroup").read_bytes())
    if own is None:
        pytest.skip("no cgroups of version 2")
    folder = tmp_path / "top" / own.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text(f"7\n{os.getpid()}\n", encoding="ascii")
    assert find_namespace_root(str(tmp_path)) == "/top"
    assert find_namespace_root(str(tmp_path / "top")) == ""
    monkeypatch.setattr(cgroup_namespace, "MOST_GROUPS", 1)
    assert find_namespace_root(str(tmp_path)) == ""
