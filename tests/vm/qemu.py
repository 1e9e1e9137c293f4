"""Boots one guest, hands it a job disk, and brings back what the guest wrote, also after a hang.

The job disk is an ext4 image made with ``mke2fs -d`` and read back with ``debugfs``: the cloud kernel has no 9p.
Nothing but QEMU runs, without network, as a child that dies with its parent.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import Image, ImageError, cache_folder

JOB_DISK_SIZE = "96M"
PROBE_TIMEOUT_S = 25.0
"""A KVM that works boots in 3 s. Some hosts offer one that cannot run a stock kernel: it hangs or faults."""
ACCELERATOR_VARIABLE = "OOMD_VM_ACCEL"
_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=1 rdinit=/init tsc=reliable clocksource=tsc audit=0 apparmor=0 nokaslr "
    "mitigations=off psi=1 selinux=0 panic=-1 systemd.show_status=0 random.trust_cpu=1 systemd.log_level=notice"
)
_CONSOLE_TAIL = 4000


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of a guest."""

    memory_mib: int = 512
    cpus: int = 1
    swap_disk_mib: int = 0


@dataclass(frozen=True, slots=True)
class GuestRun:
    """What came back: the files below /job/out by their relative path, and how it ended."""

    out: dict[str, bytes]
    ended: str
    """``poweroff``; ``timeout`` when the guest hung and was ended; ``crash`` when QEMU failed; ``panic``."""
    seconds: float
    console: str
    accelerator: str


def find_accelerator(image: Image) -> str:
    """``kvm`` if it really boots this kernel, else ``tcg``; tried once per host kernel and image, then remembered."""
    forced = os.environ.get(ACCELERATOR_VARIABLE)
    if forced:
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    memory = cache_folder() / f"accelerator-{platform.release()}-{image.folder.name}"
    if memory.exists():
        return memory.read_text()
    run = run_guest(image, {"job.json": b'{"kind": "nothing"}'}, Machine(), PROBE_TIMEOUT_S, accelerator="kvm")
    found = "kvm" if run.ended == "poweroff" and "done" in run.out else "tcg"
    memory.write_text(found)
    return found


def run_guest(
    image: Image, job: dict[str, bytes | Path], machine: Machine, timeout_s: float, *, accelerator: str | None = None
) -> GuestRun:
    """Boots, waits for power off or the timeout, reads the results. ``job``: paths on the disk, contents or folders."""
    accelerator = accelerator or find_accelerator(image)
    with tempfile.TemporaryDirectory(prefix="oomd-vm-") as name:
        work = Path(name)
        disk = _make_job_disk(work, job)
        begin = time.monotonic()
        ended = _boot(image, work, disk, machine, timeout_s, accelerator)
        seconds = time.monotonic() - begin
        console = (work / "console").read_bytes().decode(errors="backslashreplace")
        ended = "panic" if "Kernel panic" in console else ended
        return GuestRun(_read_job_disk(work, disk), ended, seconds, console[-_CONSOLE_TAIL:], accelerator)


def _make_job_disk(work: Path, job: dict[str, bytes | Path]) -> Path:
    tree = work / "job"
    (tree / "out").mkdir(parents=True)
    here = Path(__file__).parent
    shutil.copytree(here / "guest", tree / "tests/vm/guest", ignore=shutil.ignore_patterns("__pycache__"))
    for path, content in job.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copytree(content, target)
        else:
            target.write_bytes(content)
    disk = work / "job.ext4"
    make = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(tree), str(disk), JOB_DISK_SIZE]
    _run_tool(make)
    return disk


def _read_job_disk(work: Path, disk: Path) -> dict[str, bytes]:
    target = work / "back"
    target.mkdir()
    _run_tool(["debugfs", "-R", f"rdump /out {target}", str(disk)])
    return {str(path.relative_to(target / "out")): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def _run_tool(command: list[str]) -> None:
    # e2fsprogs stands in /sbin, which a user's PATH may lack.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        raise ImageError(f"{command[0]} failed: {done.stderr}")


def _boot(image: Image, work: Path, disk: Path, machine: Machine, timeout_s: float, accelerator: str) -> str:
    command = [*image.tool("qemu-system-x86_64"), *_arguments(image, work, disk, machine, accelerator)]
    # An end of file on QEMU's standard input blocks the guest's writes to its console: a pipe that nobody writes to.
    read_end, write_end = os.pipe()
    try:
        with open(work / "console", "wb") as console:
            qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command], stdin=read_end, stdout=console, stderr=subprocess.STDOUT
            )
        try:
            return "poweroff" if qemu.wait(timeout=timeout_s) == 0 else "crash"
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            with contextlib.suppress(ProcessLookupError):
                qemu.kill()
            qemu.wait()
    finally:
        os.close(read_end)
        os.close(write_end)


def _arguments(image: Image, work: Path, disk: Path, machine: Machine, accelerator: str) -> list[str]:
    firmware = image.folder / "tools/usr/share"
    # Nehalem is quicker to emulate than `max`; with cx16 a guest double-faulted once.
    processor = {"kvm": "host", "tcg": "Nehalem,-cx16"}[accelerator]
    arguments = ["-M", "pc", "-accel", accelerator, "-cpu", processor, "-smp", str(machine.cpus)]
    arguments += ["-m", f"{machine.memory_mib}M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    arguments += ["-L", str(firmware / "qemu"), "-L", str(firmware / "seabios"), "-serial", "stdio"]
    arguments += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _COMMAND_LINE]
    arguments += ["-drive", f"file={image.root},format=raw,if=virtio,snapshot=on,cache=unsafe"]
    arguments += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
    if machine.swap_disk_mib:
        swap = work / "swap"
        with open(swap, "wb") as file:
            file.truncate(machine.swap_disk_mib << 20)
        # Without a limit swap would be the host's page cache. 20 MB/s is to an emulated CPU what an SSD is.
        arguments += ["-drive", f"file={swap},format=raw,if=virtio,cache=unsafe,throttling.bps-total=20000000"]
    return arguments
