"""``oomd explain``: who would die now and why; who is spared, and why. Nobody is signalled."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack, closing

from oomd.commands.check import ladder_words
from oomd.commands.options import (
    add_config_options,
    add_tree_options,
    complain,
    load_or_complain,
    missing_cgroup,
    missing_tree,
    no_ruleset,
    overrides_of,
)
from oomd.engine.detection import as_though_fired, initial_state, longest_window_us, observe, wants_of
from oomd.engine.preferences import wanted_of
from oomd.engine.selection import name_of, select, wanted_cgroups
from oomd.kernel.cgroup import CGROUP_ROOT, CgroupError, open_cgroup_memory
from oomd.kernel.files import PAGE_BYTES, KernelFormatError, open_optional
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.smaps import read_rollup
from oomd.model.config import Config
from oomd.model.decision import Decision, Detection, Evidence
from oomd.model.report import plain_decision
from oomd.model.scope import CGROUP, Scope, ScopeError
from oomd.model.snapshot import Budget, MemoryStatus
from oomd.model.units import format_size
from oomd.model.values import replace
from oomd.monitor.bound import GrowthBound
from oomd.monitor.facts import MarkReader, read_all
from oomd.monitor.own_shmem import WORTH_BYTES as SHMEM_BYTES
from oomd.monitor.own_shmem import kin_of, read_own_shmem
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import narrowed_by_environment, own_and_ancestors
from oomd.monitor.sharing import MOST, WORTH_BYTES
from oomd.monitor.watch import CgroupWatch
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oomd.model.ruleset import EngineState, Ruleset


ASSUMED = Evidence("assumed", holds=True, text="memory is assumed to be low (--assume-low)")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("explain", help="who would die now, and why", description=__doc__)
    add_config_options(parser)
    add_tree_options(parser)
    parser.add_argument("--assume-low", action="store_true", help="decide as though the first ruleset had fired")
    parser.add_argument("--json", action="store_true", help="print the decision as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look once, decide, print."""
    config = load_or_complain(arguments.config, overrides_of(arguments))
    if config is None:
        return 2
    if missing_tree(arguments):
        return complain(missing_tree(arguments))
    if not config.rules.rulesets:
        return complain(no_ruleset(config))
    try:
        decision = explain(config, arguments)
    except (ScopeError, CgroupError, KernelFormatError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"{error.filename or arguments.proc or '/proc'}: {error.strerror}")
    ladder = [
        line for ruleset in config.rules.rulesets if ruleset.name == decision.ruleset for line in _ladder(ruleset)
    ]
    print(json.dumps(plain_decision(decision)) if arguments.json else "\n".join(describe(decision, ladder)))
    return 0


def explain(config: Config, arguments: argparse.Namespace) -> Decision:
    """The decision for this moment. Raises ScopeError, CgroupError, KernelFormatError and OSError."""
    proc_dir = arguments.proc or "/proc"
    # OOMD_SCOPE limits what may be done to the machine's processes; pids of another tree mean nothing to it.
    scope = config.scope if arguments.proc else narrowed_by_environment(config.scope)
    missing = "" if arguments.proc or arguments.cgroup else missing_cgroup(scope)
    if missing:
        raise ScopeError(f"cgroup:{missing}: there is no such cgroup")
    with ExitStack() as opened:
        return _explain(config, arguments, proc_dir, scope, opened)


def _explain(config: Config, arguments: argparse.Namespace, proc_dir: str, scope: Scope, opened: ExitStack) -> Decision:
    table, proc_fd = _open_table(arguments, proc_dir, scope, opened)
    wants = wants_of(config.rules)
    sampler = opened.enter_context(closing(Sampler(proc_dir, PAGE_BYTES, wants.details)))
    watch = opened.enter_context(closing(CgroupWatch(arguments.cgroup or CGROUP_ROOT)))
    watch.want(wants, choices=True)
    state = initial_state(config.rules)
    if not arguments.proc and not arguments.assume_low:
        state = _watch(config, sampler, watch, state)
    status = sampler.read_status(clock_us())
    table.scan(status, clock_us)
    table.read_everybody()
    _measure_sharing(table, proc_fd)
    # The same tree's cgroups: a recorded procfs has nothing to do with the machine's own.
    marks = MarkReader(arguments.cgroup or ("" if arguments.proc else CGROUP_ROOT))
    table.own_uid = 0 if arguments.proc else os.geteuid()
    read_all(proc_fd, table.rows.values(), marks, clock_us(), wanted_of(config.rules.preferences))
    status = _with_budget(status, config, scope, table, arguments.cgroup or CGROUP_ROOT)
    detections, state = observe(config.rules, status, state, watch.look(clock_us))
    if arguments.assume_low:
        detections = as_though_fired(detections, ASSUMED)
    snapshot = table.snapshot(status, clock_us(), everybody=True)
    snapshot = replace(snapshot, cgroups=watch.choice(wanted_cgroups(config.rules, detections), clock_us()))
    return select(config.rules, snapshot, detections, state)


def _open_table(
    arguments: argparse.Namespace, proc_dir: str, scope: Scope, opened: ExitStack
) -> tuple[ProcessTable, int]:
    """The table, and the descriptor of its procfs."""
    proc_fd = os.open(proc_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, proc_fd)
    loadavg = open_optional(f"{proc_dir}/loadavg")
    if loadavg is not None:
        opened.enter_context(loadavg)
    table = ProcessTable(
        proc_fd,
        ScopeGuard(scope, proc_fd),
        frozenset() if arguments.proc else own_and_ancestors(proc_fd),
        bound=GrowthBound(None, PAGE_BYTES),
        loadavg=loadavg,
        page_bytes=PAGE_BYTES,
        account_all=True,
    )
    return opened.enter_context(closing(table)), proc_fd


def describe(decision: Decision, ladder: list[str] | None = None) -> list[str]:
    """The decision for people; ``ladder``: lines about what its ruleset does."""
    status = decision.status
    lines = [f"memory: {format_size(status.available_bytes)} of {format_size(status.base_bytes)} available"]
    if status.budget is not None:
        lines[0] += f" (budget, usage from {status.budget.source})"
    elif status.has_swap:
        lines[0] += f", swap: {format_size(status.swap_free_bytes)} of {format_size(status.swap_total_bytes)} free"
    for detection in decision.detections:
        lines.append(f"ruleset {detection.ruleset}: {_state_of(detection)}")
        lines += [f"  {'x' if piece.holds else '-'} {piece.text}" for piece in detection.evidence]
    lines.append(f"decision: {decision.action}: {decision.reason}")
    lines += ladder or []
    lines.append("who would go first:" if decision.ranking else "nobody may be killed")
    for place, candidate in enumerate(decision.ranking[:10], 1):
        process = candidate.process
        lines.append(
            f"  {place:2}. {name_of(candidate)} gives back {format_size(candidate.freeable_bytes)}"
            f" [{_measure_of(candidate.measured)}], oom_score_adj {process.oom_score_adj}, {candidate.preference}"
            f"{f' ({candidate.because})' if candidate.because else ''}"
        )
    spared = sorted(decision.rejected, key=lambda rejection: -rejection.process.size_bytes)
    spared = [rejection for rejection in spared if not rejection.process.is_kernel_thread]
    if spared:
        lines.append("who is spared:")
    for rejection in spared[:20]:
        process = rejection.process
        who = f"{process.comm} ({process.id.pid}, {format_size(process.size_bytes)})"
        lines.append(f"  {f'{rejection.kind} {rejection.name}' if rejection.name else who} {rejection.why}")
    if len(spared) > 20:
        lines.append(f"  and {len(spared) - 20} more")
    return lines


def _ladder(ruleset: Ruleset) -> list[str]:
    """What is done one after the other; nothing where nothing comes before the signal."""
    if not ruleset.steps:
        return []
    return [f"the ladder of {ruleset.name}:", *(f"  {each}" for each in ladder_words(ruleset))]


def _state_of(detection: Detection) -> str:
    if detection.critical:
        return "fired, critical"
    return "fired" if detection.fired else "quiet"


def _measure_of(measured: str) -> str:
    return "its own, by smaps_rollup" if measured == "private" else "RssAnon + VmSwap"


def _watch(config: Config, sampler: Sampler, watch: CgroupWatch, state: EngineState) -> EngineState:
    """Collect as much of the past as the longest window wants: a share of a window cannot be told from one look."""
    window_us = longest_window_us(config.rules)
    if window_us and sys.stderr.isatty():
        print(f"watching for {window_us / 1e6:g} s …", file=sys.stderr)
    end = clock_us() + window_us
    while clock_us() < end:
        _, state = observe(config.rules, sampler.read_status(clock_us()), state, watch.look(clock_us))
        time.sleep(min(0.1, max(0.001, (end - clock_us()) / 1e6)))
    return initial_state(config.rules) if not window_us else state


def _with_budget(status: MemoryStatus, config: Config, scope: Scope, table: ProcessTable, root: str) -> MemoryStatus:
    if config.budget_bytes is None:
        return status
    cgroup = next((part.path for part in scope.parts if part.kind == CGROUP), "")
    if cgroup:
        memory = open_cgroup_memory(cgroup, root=root)
        usage = memory.read_usage_bytes()
        memory.close()
    else:
        usage = table.usage_bytes()
    return replace(status, budget=Budget(config.budget_bytes, usage, cgroup or "processes"))


def _measure_sharing(table: ProcessTable, proc_fd: int) -> None:
    rows = table.rows.values()
    sharers = sorted((row for row in rows if row.shmem_bytes >= SHMEM_BYTES), key=lambda row: -row.shmem_bytes)
    for row in dict.fromkeys((*table.leaders[:MOST], *sharers[:MOST])):
        rollup = read_rollup(proc_fd, row.pid) if max(row.size_bytes, row.shmem_bytes) >= WORTH_BYTES else None
        if rollup is not None:
            own = read_own_shmem(proc_fd, row.pid, kin_of(row, rows), rollup)
            row.measured(rollup, clock_us(), own_shmem_bytes=own)
