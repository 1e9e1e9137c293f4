"""One step of a trace, read by the same readers as the live machine, as the values that a decision looks at."""

from __future__ import annotations

import os

from oomd.engine.detection import wants_of
from oomd.engine.preferences import wanted_of
from oomd.kernel.cgroup import CgroupError, open_cgroup_memory
from oomd.kernel.files import KernelFormatError
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.smaps import read_rollup
from oomd.model.scope import CGROUP, ScopeError
from oomd.model.snapshot import Budget, MemoryStatus, Process, Snapshot
from oomd.model.values import dataclass, replace
from oomd.monitor.bound import GrowthBound
from oomd.monitor.facts import MarkReader, read_all
from oomd.monitor.own_shmem import kin_of, read_own_shmem
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.watch import CgroupWatch
from oomd.replay.pages import page_bytes_of
from oomd.replay.soundness import Soundness
from oomd.replay.trace import ReplayError, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.config import Config
    from oomd.model.ruleset import Wants
    from oomd.model.snapshot import Cgroup, ProcessId
    from oomd.monitor.past import Past


@dataclass(frozen=True, slots=True)
class Observation:
    """What a step shows."""

    status: MemoryStatus
    snapshot: Snapshot
    cgroups: tuple[Cgroup, ...]
    """What detectors look at."""
    watch: CgroupWatch

    def choice(self, wants: Wants) -> tuple[Cgroup, ...]:
        """What a choice looks at."""
        return _of_a_trace(self.watch.choice(wants, self.status.time_us))


class Observer:
    """Reads step after step, and remembers how large processes were."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._histories: dict[ProcessId, Past] = {}
        self._soundness = Soundness()

    def observe(self, step: Step) -> Observation:
        """Everything of this step. Raises ReplayError that names the step and the file."""
        try:
            proc_fd = os.open(step.proc_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ReplayError(f"step {step.name}: {step.proc_dir}: {error.strerror}") from error
        try:
            self._soundness.check(step)
            return self._observe(step, proc_fd)
        except KernelFormatError as error:
            broken = f"{_place(error.file, step)}: {error.field} is missing or malformed"
            raise ReplayError(f"step {step.name}: {broken}") from error
        except (CgroupError, ScopeError) as error:
            raise ReplayError(f"step {step.name}: {error}") from error
        except OSError as error:
            raise ReplayError(f"step {step.name}: {error.filename or step.proc_dir}: {error.strerror}") from error
        finally:
            os.close(proc_fd)

    def _observe(self, step: Step, proc_fd: int) -> Observation:
        config, wants = self._config, wants_of(self._config.rules)
        page_bytes = page_bytes_of(step.proc_dir)
        table = ProcessTable(
            proc_fd,
            ScopeGuard(config.scope, proc_fd),
            frozenset(),
            bound=GrowthBound(None, page_bytes),
            loadavg=None,
            page_bytes=page_bytes,
            account_all=True,
        )
        sampler = Sampler(step.proc_dir, page_bytes, wants.details)
        try:
            status = sampler.read_status(step.time_us, per_cpu_lists=True)
            table.scan(status, lambda: step.time_us)
            table.read_everybody()
            self._remember(table, step.time_us)
            _measure(table, proc_fd, step, config)
            status = _with_budget(status, step, config, table)
            snapshot = table.snapshot(status, step.time_us, everybody=True)
        finally:
            table.close()
            sampler.close()
        processes = tuple(_owned(process, step) for process in snapshot.processes)
        watch = CgroupWatch(step.cgroup_dir, xattrs=step.meta.xattrs, owners=step.meta.owners)
        watch.want(wants, choices=bool(step.cgroup_dir))
        cgroups = _of_a_trace(watch.look(lambda: step.time_us))
        return Observation(status, replace(snapshot, processes=processes), cgroups, watch)

    def _remember(self, table: ProcessTable, now_us: int) -> None:
        """Give every process its past. Who was not there in the step before, has grown by all that it owns."""
        known, self._histories = self._histories, {}
        before_us = max((past.newest_us for past in known.values()), default=None)
        for row in table.rows.values():
            past = known.get(row.id)
            if past is not None:
                row.history = past
            elif before_us is not None:
                row.history.begin(before_us, 0, 0)
            row.note_size(now_us)
            self._histories[row.id] = row.history


def _measure(table: ProcessTable, proc_fd: int, step: Step, config: Config) -> None:
    """What else is known of each process: its private memory, marks, command line."""
    for row in table.rows.values():
        rollup = read_rollup(proc_fd, row.pid)
        if rollup is not None:
            own = read_own_shmem(proc_fd, row.pid, kin_of(row, table.rows.values()), rollup)
            row.measured(rollup, step.time_us, own_shmem_bytes=own)
    marks = MarkReader(step.cgroup_dir, xattrs=step.meta.xattrs, owners=step.meta.owners)
    read_all(proc_fd, table.rows.values(), marks, step.time_us, wanted_of(config.rules.preferences))


def _of_a_trace(cgroups: tuple[Cgroup, ...]) -> tuple[Cgroup, ...]:
    """Without the inodes, which tell nothing where each step's tree is a copy."""
    return tuple(replace(cgroup, inode=0) for cgroup in cgroups)


def _owned(process: Process, step: Step) -> Process:
    uid = step.meta.uids.get(process.id.pid)
    return process if uid is None else replace(process, uid=uid)


def _with_budget(status: MemoryStatus, step: Step, config: Config, table: ProcessTable) -> MemoryStatus:
    if config.budget_bytes is None:
        return status
    cgroup = next((part.path for part in config.scope.parts if part.kind == CGROUP), "")
    if not cgroup:
        return replace(status, budget=Budget(config.budget_bytes, table.usage_bytes(), "processes"))
    if not step.cgroup_dir:
        raise CgroupError(f"cgroup {cgroup}: the trace has no cgroup/ tree")
    memory = open_cgroup_memory(cgroup, root=step.cgroup_dir)
    usage = memory.read_usage_bytes()
    memory.close()
    return replace(status, budget=Budget(config.budget_bytes, usage, cgroup))


def _place(file: str, step: Step) -> str:
    """The very file: parsers call it as the kernel does (``/proc/meminfo``)."""
    if file == "pressure":
        return f"{step.proc_dir}/pressure/memory"
    return f"{step.proc_dir}/{file.removeprefix('/proc/')}" if file.startswith("/proc/") else file
