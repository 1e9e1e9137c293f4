"""Who is measured: oomd as it is, and Debian's earlyoom and nohang, unpacked and never installed, which search for
victims and may take none.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.arena import Meminfo

PACKAGES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oomd-packages"
EARLYOOM = PACKAGES / "earlyoom/usr/bin/earlyoom"
NOHANG = PACKAGES / "nohang/usr/sbin/nohang"
NOHANG_CONFIGS = PACKAGES / "nohang/etc/nohang"
RIVALS = ("earlyoom", "nohang", "nohang-desktop")
_NEVER = 1_000_000
"""A badness that nobody has: nohang searches, and finds that nothing is to be done."""
_TOOK = {
    "earlyoom": re.compile(r"selecting victim took (\d+\.\d+) ms"),
    "nohang": re.compile(r"\) in (\d+)ms"),
    "nohang-desktop": re.compile(r"\) in (\d+)ms"),
}


def missing() -> list[str]:
    """Rivals that are not there (.ci/unpack brings them)."""
    return [path.name for path in (EARLYOOM, NOHANG) if not path.exists()]


def version_of(package: str) -> str:
    """As the package's changelog says."""
    path = PACKAGES / package / "usr/share/doc" / package / "changelog.Debian.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.readline().split("(")[1].partition(")")[0]


class Rival:
    """One of them at work; ``short`` has it believe that memory is short, so that it searches all the time."""

    def __init__(self, name: str, folder: Path, *, short: bool) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        argv = _earlyoom(short=short) if name == "earlyoom" else _nohang(name, folder, short=short)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def searches_ms(self) -> list[float]:
        """What its searches took so far, by its own word."""
        text = self._log.read_text("utf-8", "replace")
        return [float(each) for each in _TOOK[self.name].findall(text)]

    def words(self) -> str:
        """The end of what it said."""
        return self._log.read_text("utf-8", "replace")[-500:]

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def _earlyoom(*, short: bool) -> list[str]:
    if not short:
        return [str(EARLYOOM), "--dryrun", "-r", "0"]
    return [str(EARLYOOM), "--dryrun", "-d", "-r", "0", "-m", "99,98", "-s", "100,100"]


def _nohang(name: str, folder: Path, *, short: bool) -> list[str]:
    path = folder / f"{name}.conf"
    text = (NOHANG_CONFIGS / path.name).read_text("utf-8")
    changes = {"min_badness": str(_NEVER), "post_action_gui_notifications": "False"}
    changes |= {"low_memory_warnings_enabled": "False", "soft_threshold_min_mem": "50 %"}
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} *=.*$", f"{key} = {value}", text)
        assert count == 1, (key, count)
    path.write_text(text, "utf-8")
    argv = ["/usr/bin/python3", str(NOHANG), "--monitor", "--config", str(path)]
    if not short:
        return argv
    # It takes no limit above half of the memory, so it is shown a machine on which little is available.
    meminfo = Meminfo(folder / f"{name}.meminfo")
    meminfo.say(meminfo.total_mib / 10)
    return meminfo.shown_to(argv)


@dataclass(frozen=True, slots=True)
class Memory:
    """KiB."""

    rss: int
    pss: int
    anonymous: int


def memory_of(pid: int) -> Memory:
    """What a process has now."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:]
    found = {line.split()[0]: int(line.split()[1]) for line in lines}
    return Memory(found["Rss:"], found["Pss:"], found["Anonymous:"])


def cpu_ns(pid: int) -> int:
    """Processor time of all its threads that live."""
    return sum(int(path.read_text("ascii").split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def switches(pid: int) -> int:
    """How often its threads went to sleep of their own accord."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(path.read_text("ascii").partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def dropped_rights(*names: str) -> list[str]:
    """What to begin a command with that is to lack these capabilities."""
    lost = ",".join(f"-{name}" for name in names)
    return ["setpriv", f"--inh-caps={lost}", f"--bounding-set={lost}"]


def own_start_ns() -> int:
    """How long a bare interpreter takes from exec to its end."""
    begin = time.monotonic_ns()
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    return time.monotonic_ns() - begin
