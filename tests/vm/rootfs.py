"""What is inside the guest: its packages, and the changes that make it boot in seconds and sit still while measured."""

from __future__ import annotations

import shutil
from pathlib import Path

PACKAGES = (
    *("systemd", "dbus", "kmod", "e2fsprogs", "mount", "util-linux", "procps"),
    *("python3", "python3-psutil", "python3-yaml", "python3-systemd", "python3-prometheus-client", "python3-jeepney"),
    *("python3-pytest", "python3-pytest-timeout", "python3-hypothesis"),
    *("earlyoom", "nohang", "systemd-oomd", "oomd"),
)
"""``oomd`` is Debian's package of Meta's oomd; ours comes with the job, from the wheel of this tree."""
MODULES = ("zram",)
OOMD_PREFIX = "/opt/oomd"

_TARGET = """[Unit]
Description=The VM lab's machine
Requires=basic.target vm-job.service
After=basic.target
AllowIsolate=yes
"""
# In a slice of its own, out of reach of every killer that looks at system.slice or user.slice.
_JOB = """[Unit]
Description=The job of this boot
After=basic.target dbus.socket
Wants=dbus.socket
[Service]
Type=exec
Slice=lab.slice
ExecStart=/usr/bin/python3 -I /job/tests/vm/guest/main.py
StandardOutput=file:/job/out/stdout
StandardError=file:/job/out/stderr
OOMScoreAdjust=-1000
OOMPolicy=continue
Delegate=yes
TasksMax=infinity
LimitMEMLOCK=infinity
LimitRTPRIO=99
ExecStopPost=/usr/bin/sync
ExecStopPost=/usr/bin/systemctl poweroff --force --force
"""
_SLICE = """[Slice]
MemoryMin=96M
"""
_MASKED = (
    *(
        "systemd-udevd.service",
        "systemd-udev-trigger.service",
        "systemd-udevd-kernel.socket",
        "systemd-udevd-control.socket",
    ),
    *("systemd-logind.service", "systemd-random-seed.service", "systemd-update-utmp.service", "systemd-pstore.service"),
    *(
        "systemd-remount-fs.service",
        "systemd-sysctl.service",
        "systemd-tmpfiles-setup-dev.service",
        "systemd-networkd.service",
    ),
    *("systemd-tmpfiles-setup-dev-early.service", "systemd-journal-flush.service", "systemd-machine-id-commit.service"),
    *(
        "systemd-modules-load.service",
        "systemd-sysusers.service",
        "systemd-firstboot.service",
        "systemd-hwdb-update.service",
    ),
    *(
        "systemd-update-done.service",
        "systemd-journal-catalog-update.service",
        "systemd-binfmt.service",
        "systemd-rfkill.socket",
    ),
    *(
        "systemd-hibernate-resume.service",
        "systemd-boot-random-seed.service",
        "systemd-repart.service",
        "ldconfig.service",
    ),
    *("systemd-timesyncd.service", "systemd-user-sessions.service", "systemd-ask-password-console.path"),
    *(
        "systemd-ask-password-wall.path",
        "systemd-tpm2-setup.service",
        "systemd-tpm2-setup-early.service",
        "systemd-pcrphase.service",
    ),
    *("modprobe@configfs.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service"),
    *(
        "modprobe@dm_mod.service",
        "modprobe@loop.service",
        "kmod-static-nodes.service",
        "systemd-network-generator.service",
    ),
    *("proc-sys-fs-binfmt_misc.automount", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "getty.target", "timers.target", "cryptsetup.target"),
    *(
        "e2scrub_reap.service",
        "remote-fs.target",
        "systemd-sysext.socket",
        "systemd-creds.socket",
        "systemd-hostnamed.socket",
    ),
    *("systemd-bootctl.socket", "systemd-mute-console.socket", "systemd-importd.socket", "integritysetup.target"),
    *("veritysetup.target", "swap.target", "imports.target", "machines.target"),
)
"""Nothing that a test needs: each costs 0.1–0.3 s under emulation. sys-kernel-tracing.mount stays: who killed whom."""
_JOURNALD = """[Journal]
Storage=volatile
RuntimeMaxUse=16M
ForwardToConsole=no
RateLimitIntervalSec=0
"""


def customise(tree: Path) -> None:
    """Changes an unpacked and configured root file system in place."""
    units = tree / "etc/systemd/system"
    # The rivals (and whatever else) are started by a job only.
    for wants in [*units.glob("*.wants"), *units.glob("*.requires")]:
        shutil.rmtree(wants)
    for link in units.iterdir():
        if link.is_symlink():
            link.unlink()
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")
    _write(units / "vm.target", _TARGET)
    _write(units / "vm-job.service", _JOB)
    _write(units / "lab.slice", _SLICE)
    (units / "default.target").symlink_to("vm.target")
    _write(tree / "etc/systemd/journald.conf.d/vm.conf", _JOURNALD)
    _write(tree / "etc/fstab", "")
    _write(tree / "etc/hostname", "guest\n")
    _write(tree / "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    (tree / "job").mkdir()
    _make_environment(tree)
    for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/zoneinfo", "usr/share/i18n", "usr/share/perl"):
        shutil.rmtree(tree / waste, ignore_errors=True)


def _make_environment(tree: Path) -> None:
    """An empty virtual environment that sees Debian's libraries: what ``make install`` would make."""
    (python,) = (path.name for path in (tree / "usr/bin").glob("python3.[0-9]*") if path.name[8:].isdigit())
    prefix = tree / OOMD_PREFIX.lstrip("/")
    (prefix / "lib" / python / "site-packages").mkdir(parents=True)
    (prefix / "bin").mkdir()
    for name in ("python3", "python"):
        (prefix / "bin" / name).symlink_to(f"/usr/bin/{python}")
    _write(prefix / "pyvenv.cfg", f"home = /usr/bin\ninclude-system-site-packages = true\nversion = {python[6:]}\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
