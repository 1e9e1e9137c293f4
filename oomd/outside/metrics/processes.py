"""Our two processes and the kernel's own kills, from /proc: told even when the killer does not answer."""

from __future__ import annotations

import contextlib
import os
import time

from oomd.kernel.files import KernelFormatError
from oomd.kernel.vmstat import parse_vmstat
from oomd.outside.metrics.samples import Samples

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# proc_pid_stat(5), counted from the field after the name, which is number 3.
_MAJFLT, _UTIME, _STIME, _THREADS, _START, _RSS = 12 - 3, 14 - 3, 15 - 3, 20 - 3, 22 - 3, 24 - 3


class Processes:
    """Reads the killer, which is our parent, and ourselves."""

    def __init__(self, proc_dir: str = "/proc") -> None:
        self._proc_dir = proc_dir
        self._pids = {"killer": os.getppid(), "outside": os.getpid()}

    def samples(self) -> Samples:
        """What can be read now; nothing of a killer that has ended."""
        samples = Samples()
        booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for name, pid in self._pids.items():
            if name == "killer" and os.getppid() != pid:
                continue
            data = self._read(f"{pid}/stat")
            if data:
                _process(samples, name, data, booted_s)
        vmstat = self._read("vmstat")
        if vmstat:
            with contextlib.suppress(KernelFormatError):
                samples.put("oomd_kernel_oom_kills_total", parse_vmstat(vmstat).oom_kill)
        return samples

    def _read(self, path: str) -> bytes:
        try:
            with open(f"{self._proc_dir}/{path}", "rb") as file:
                return file.read()
        except OSError:
            return b""


def _process(samples: Samples, name: str, data: bytes, booted_s: float) -> None:
    fields = data[data.rindex(b")") + 2 :].split()
    samples.put("oomd_process_cpu_seconds_total", (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS, name)
    samples.put("oomd_process_resident_memory_bytes", int(fields[_RSS]) * _PAGE_BYTES, name)
    samples.put("oomd_process_major_page_faults_total", int(fields[_MAJFLT]), name)
    samples.put("oomd_process_threads", int(fields[_THREADS]), name)
    samples.put("oomd_process_start_time_seconds", booted_s + int(fields[_START]) / _TICKS, name)
