"""Probes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel import features as kernel_features
from oomd.kernel.features import probe_features, read_capabilities
from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.psi import MEMORY_PRESSURE
from oomd.model.units import MIB
from tests.fakes.proc_tree import ProcTree
from tests.kernel.arbitrary import captured, mangled, survives
from tests.kernel.children import child, said


def test_this_kernel() -> None:
    """The calls that the other tests use successfully are found."""
    features = probe_features()
    assert features.pidfd_open
    assert features.pidfd_send_signal
    assert features.process_mrelease
    assert features.smaps_rollup
    assert Path(MEMORY_PRESSURE).exists() or not features.psi


def test_pressure_is_absent(tmp_path: Path) -> None:
    """A procfs without pressure files has no PSI and no trigger."""
    tree = ProcTree(tmp_path)
    assert probe_features(str(tmp_path)).psi
    tree.without_pressure()
    features = probe_features(str(tmp_path))
    assert (features.psi, features.psi_trigger, features.smaps_rollup) == (False, False, False)
    assert features.process_mrelease


UNDER_A_FILTER = """
import ctypes, struct
from oomd.kernel import syscalls
from oomd.kernel.features import probe_features
LOAD, JUMP_IF_EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
calls = {syscalls._PIDFD_SEND_SIGNAL: 1, syscalls._PROCESS_MRELEASE: 38}
program = struct.pack("HBBI", LOAD, 0, 0, 0)
for number, errno in calls.items():
    program += struct.pack("HBBI", JUMP_IF_EQUAL, 0, 1, number) + struct.pack("HBBI", RETURN, 0, 0, ERRNO | errno)
program += struct.pack("HBBI", RETURN, 0, 0, ALLOW)
rules = ctypes.create_string_buffer(program)
holder = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(rules)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(holder))) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
features = probe_features()
print(features.pidfd_open, features.pidfd_send_signal, features.process_mrelease, flush=True)
"""


def test_calls_that_a_filter_forbids() -> None:
    """F14: calls that a seccomp filter answers with EPERM or ENOSYS count as absent; the probe does not fail."""
    with child(UNDER_A_FILTER) as process:
        assert said(process) == b"True False False"


def test_captured_capabilities() -> None:
    """The names of the bits of root on a machine that withholds one."""
    names = read_capabilities(captured("status"))
    assert {"CAP_KILL", "CAP_SYS_NICE", "CAP_IPC_LOCK", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"} <= names
    assert "CAP_SYS_RESOURCE" not in names
    assert len(names) == 40


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (0, "CAP_CHOWN"),
        (2, "CAP_DAC_READ_SEARCH"),
        (5, "CAP_KILL"),
        (12, "CAP_NET_ADMIN"),
        (14, "CAP_IPC_LOCK"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
        (23, "CAP_SYS_NICE"),
        (24, "CAP_SYS_RESOURCE"),
        (34, "CAP_SYSLOG"),
        (40, "CAP_CHECKPOINT_RESTORE"),
    ],
)
def test_bits(bit: int, name: str) -> None:
    """Bits have the names of include/uapi/linux/capability.h."""
    assert read_capabilities(b"\nCapEff:\t%016x\n" % (1 << bit)) == {name}


@given(st.integers(0, (1 << 64) - 1))
def test_unknown_bits(mask: int) -> None:
    """Bits of later kernels are left out, never an error."""
    assert len(read_capabilities(b"\nCapEff:\t%016x\n" % mask)) == (mask & (1 << 41) - 1).bit_count()


def test_no_capabilities() -> None:
    """An ordinary user has none; a file without the line is an error."""
    assert read_capabilities(b"\nCapEff:\t0000000000000000\n") == frozenset()
    with pytest.raises(KernelFormatError, match="CapEff"):
        read_capabilities(b"")


@given(mangled("status"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives names or KernelFormatError."""
    assert survives(read_capabilities, data)


def test_slack_of_sizes() -> None:
    """One MiB where the kernel shows every page at once, else what the CPUs may hold back."""
    exact, slack = kernel_features._shows_every_page(), kernel_features.rss_slack_bytes()
    cpus = os.cpu_count() or 1
    assert slack == (MIB if exact else max(MIB, 2 * cpus * max(32, 2 * cpus) * PAGE_BYTES))


def test_slack_where_pages_show_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of 64 CPUs between 6.2 and 6.16, or without a statm to ask."""
    monkeypatch.setattr(kernel_features, "parse_statm", lambda data: (100, 10))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert kernel_features.rss_slack_bytes() == 2 * 64 * 128 * PAGE_BYTES
