"""One kill in this process, from the alarm to the reaped victim, with an audit hook that notes what is opened, forked
or imported on the way. What everybody on the machine allocates and forks stands still for it (copies of vmstat and
loadavg), so that the way is the same beside any load.

Prints one JSON object: what was noted, the victim's exit status, the action.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from oomd.config.loader import default_config
from oomd.kernel.files import PAGE_BYTES, KernelFile
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.vmstat import GROWTH_ENDS
from oomd.kill.executor import Executor
from oomd.kill.warrant import Gate
from oomd.loop import Loop
from oomd.model.decision import Detection
from oomd.model.scope import parse_scope
from oomd.monitor.bound import GrowthBound
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import own_and_ancestors
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import Waiter
from oomd.parts import Parts, clock_us
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.pool import ReaperPool

if TYPE_CHECKING:
    from oomd.kernel.threads import Thread

ACTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "actors.py")
IGNORED = ("object.", "sys._getframe", "import", "marshal", "ctypes.get_errno")
PATIENCE_US = 60_000_000
MARK = "/the/way/to/a/kill"


def still(path: str, **options: Any) -> KernelFile:
    """A kernel file as it is now, for good."""
    with open(path, "rb") as file, tempfile.NamedTemporaryFile() as copy:
        copy.write(file.read())
        copy.flush()
        return KernelFile(copy.name, **options)


def build(events: list[Any], loadavg: KernelFile | None = None) -> Loop:
    """A loop as the daemon builds it, around the tree of this process, without an outside. Without ``loadavg`` nobody
    is ever new.
    """
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    guard = ScopeGuard(parse_scope(f"tree:{os.getpid()}"), proc_fd)
    own = own_and_ancestors(proc_fd)
    vmstat, loadavg = still("/proc/vmstat", enough=GROWTH_ENDS), loadavg or still("/proc/loadavg", single_record=True)
    bound = GrowthBound(vmstat, PAGE_BYTES)
    table = ProcessTable(proc_fd, guard, own, bound=bound, loadavg=loadavg, page_bytes=PAGE_BYTES)
    waiter, reaper = Waiter(), ReaperPool(MreleaseReaper())
    reaper.start()
    waiter.watch(reaper.fd, "reaper")
    parts = Parts(
        waiter=waiter,
        sampler=Sampler("/proc", PAGE_BYTES),
        table=table,
        sharing=SharingMeter(proc_fd),
        executor=Executor(Gate(guard, proc_fd, own), reaper, waiter),
        on_event=print,
        report=events.append,
        on_tick=lambda now: None,
        floor_bytes=lambda: 0,
    )
    return Loop(parts, default_config().rules)


def take_down(loop: Loop) -> None:
    """Close all that :func:`build` has opened, where this process goes on without the loop."""
    parts = loop.parts
    parts.executor.close()
    assert parts.executor._reaper is not None
    assert parts.executor._reaper.close(PATIENCE_US / 1e6)
    parts.table.close()
    parts.sampler.close()
    parts.waiter.close()
    for file in (parts.table.bound._vmstat, parts.table._newcomers._loadavg):
        if file is not None:
            file.close()
    os.close(parts.table._proc_fd)


def lifter_of(loop: Loop) -> Thread:
    """The thread that works beside the reap."""
    reaper = loop.parts.executor._reaper
    assert reaper is not None
    assert reaper._lifter is not None
    return reaper._lifter.thread


def main() -> None:
    """Kill a child of ours."""
    command = [sys.executable, ACTORS, "hold", "victim", "96"]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert victim.stdout is not None
    victim.stdout.readline()
    events: list[Any] = []
    loop = build(events)
    lifter = lifter_of(loop)
    status = loop.parts.sampler.read_status(clock_us())
    loop.parts.table.scan(status, clock_us)  # leaders are kept open from here on
    loop.parts.table.look(status, clock_us)  # and nobody is new
    alarm = (Detection("level", fired=True, critical=True, since_us=0),)
    noted: list[tuple[str, str]] = []
    watching = False

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        # The lifter works beside the reap, after the signal: what it opens delays neither.
        beside = threading.get_native_id() == lifter.native_id
        if watching and not beside and not name.startswith(IGNORED):
            noted.append((name, str(arguments)[:80]))

    sys.addaudithook(hook)
    begin = clock_us()
    os.access(MARK, os.F_OK)  # for whoever traces system calls
    watching = True
    status = loop.parts.sampler.read_status(clock_us())
    loop.act.at_once(loop.act.carry_out(loop._select(alarm, status)))
    while not any(credit.reaped_us or credit.death_us for credit in loop.state.credits):
        assert clock_us() - begin < PATIENCE_US
        loop._take(loop.parts.waiter.wait_ready(100_000))
    watching = False
    answer = {"noted": noted, "victim": victim.wait(timeout=120), "action": events[0]["decision"]["action"]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
