"""Access lists of real files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.acl import ACCESS, grant_group, granted_groups

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file on a file system that has lists."""
    path = tmp_path / "file"
    path.touch(0o600)
    try:
        grant_group(str(path), 4711)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    os.removexattr(path, ACCESS)
    os.chmod(path, 0o600)
    return str(path)


def test_a_group_may(file: str) -> None:
    """The list is read back, the kernel shows its mask as the group's rights, and others have none."""
    assert granted_groups(file) == ()
    grant_group(file, 4711)
    assert granted_groups(file) == (4711,)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
@pytest.mark.parametrize(("gid", "works"), [(4711, True), (4712, False)])
def test_the_kernel_obeys(file: str, gid: int, works: bool) -> None:
    """Who is in the group opens it, who is not does not."""
    grant_group(file, 4711)
    fd = os.open(os.path.dirname(file), os.O_PATH)
    code = f"import os; os.setgroups([{gid}]); os.setgid(99999); os.setuid(99999)\n"
    code += f"os.close(os.open('/proc/self/fd/{fd}/file', os.O_RDWR))"
    try:
        os.chmod(os.path.dirname(file), 0o755)
        done = subprocess.run([sys.executable, "-c", code], pass_fds=(fd,), capture_output=True, check=False)
    finally:
        os.close(fd)
    assert (done.returncode == 0) == works, done.stderr


def test_no_list(tmp_path: Path) -> None:
    """Of a file without one, of no file, and of a list that is cut off."""
    (tmp_path / "plain").touch()
    assert granted_groups(str(tmp_path / "plain")) == ()
    assert granted_groups(str(tmp_path / "none")) == ()
