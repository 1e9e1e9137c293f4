"""From what a guest wrote down to the figures of a run: who died and by whose hand, how soon, at what cost."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.vm.qemu import GuestRun
    from tests.vm.scenarios import Scenario

LOW_SHARE = 0.10
_LINE = re.compile(r"^\s*(?P<task>.+)-(?P<tid>\d+)\s+\[\d+\]\s+\S+\s+(?P<time>[\d.]+): (?P<event>\w+): (?P<rest>.*)$")
_TARGET = re.compile(r"comm=(?P<comm>.+?) pid=(?P<pid>\d+)")
_SIGNAL = re.compile(r"sig=(?P<signal>\d+) ")
_HEAD = struct.Struct("=QdQ")
_STALL = struct.Struct("=dd")
_BY_KERNEL = "code=128 "
"""SI_KERNEL: the task in the trace is only the one whose allocation failed."""
SIGKILL = 9


@dataclass(frozen=True, slots=True)
class Kill:
    """One process that was signalled to death."""

    comm: str
    pid: int
    by: str
    """``killer``, ``kernel`` (whole machine), ``kernel-memcg`` (a limit of its own) or the name of the sender."""
    signalled_s: float
    signals: tuple[int, ...]
    died_s: float | None


@dataclass(slots=True)
class Figures:
    """One run. Times in ms; -1 or None: did not happen."""

    scenario: str
    swap: str
    killer: str
    ended: str
    verdict: str = ""
    """``ok``, or what is wrong, in words."""
    kills: list[dict[str, Any]] = field(default_factory=list)
    killed_by: str = "-"
    right: bool | None = None
    low_to_signal_ms: int | None = None
    low_to_death_ms: int | None = None
    low_to_memory_ms: int | None = None
    lowest_available_mib: int | None = None
    stalled_ms: int | None = None
    worst_stall_ms: int | None = None
    database_alive: bool | None = None
    psi_full_ms: int | None = None
    kernel_kills: int = 0
    false_kills: int = 0
    rss_kib: int | None = None
    main_rss_kib: int | None = None
    cpu_ms: int | None = None
    major_faults: int | None = None
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(run: GuestRun, scenario: Scenario, swap: str, killer: str) -> Figures:
    """The figures of a run; of a hung one only that it hung."""
    figures = Figures(scenario.name, swap, killer, run.ended, seconds=round(run.seconds, 1))
    if "result.json" not in run.out:
        failure = run.out.get("failure", b"").decode().strip().splitlines()
        figures.verdict = f"no result ({run.ended}): {failure[-1] if failure else run.console.strip()[-200:]}"
        return figures
    result = json.loads(run.out["result.json"])
    rows = json.loads(run.out["samples.json"])
    trace, dmesg = (run.out.get(name, b"").decode(errors="replace") for name in ("trace", "dmesg"))
    kills = find_kills(trace, dmesg, result, rows[-1][0])
    figures.kills = [asdict(kill) for kill in kills]
    _add_victims(figures, kills, scenario)
    _add_times(figures, kills, rows, result)
    _add_database(figures, run.out.get("database", b"").decode(), result["go"], kills, rows[-1][0])
    _add_killer(figures, result)
    figures.verdict = judge(figures, scenario)
    return figures


def find_kills(trace: str, dmesg: str, result: dict[str, Any], until: float) -> list[Kill]:
    """Every actor that got SIGTERM or SIGKILL between the start and ``until`` (s), in order."""
    actors = {int(name.rsplit(".", 1)[1]) for name in result["pids"]}
    tasks = set(result["killer_tasks"]) | {int(pid) for pid in result["before"].get("pids", {})}
    memcg = {int(pid) for pid in re.findall(r"Memory cgroup out of memory: Killed process (\d+)", dmesg)}
    begun: dict[int, dict[str, Any]] = {}
    died: dict[int, float] = {}
    for match in filter(None, map(_LINE.match, trace.splitlines())):
        time_s, event, rest = float(match["time"]), match["event"], match["rest"]
        if not result["go"] <= time_s <= until:
            continue
        target = _TARGET.search(rest)
        if target is None:
            continue
        pid, comm = int(target["pid"]), target["comm"]
        if event == "sched_process_exit":
            died[pid] = time_s
        elif event == "signal_generate" and pid in actors:
            signal = int((_SIGNAL.search(rest) or {"signal": 0})["signal"])
            sender = "killer" if int(match["tid"]) in tasks else match["task"].strip()
            if _BY_KERNEL in rest:
                sender = "kernel-memcg" if pid in memcg else "kernel"
            entry = begun.setdefault(pid, {"comm": comm, "time": time_s, "by": sender, "signals": []})
            if SIGKILL in entry["signals"] or pid in died:
                continue  # systemd clears up after the dead
            entry["signals"].append(signal)
            entry["by"] = sender if signal == SIGKILL and entry["by"] != "killer" else entry["by"]
    return [
        Kill(entry["comm"], pid, entry["by"], entry["time"], tuple(entry["signals"]), died.get(pid))
        for pid, entry in begun.items()
    ]


def _add_victims(figures: Figures, kills: list[Kill], scenario: Scenario) -> None:
    acts = [kill for kill in kills if kill.by != "kernel-memcg"]
    figures.kernel_kills = sum(kill.by == "kernel" for kill in acts)
    figures.false_kills = sum(kill.comm not in scenario.right for kill in acts)
    if acts:
        figures.killed_by = "+".join(dict.fromkeys(kill.by if kill.by != "killer" else figures.killer for kill in acts))
        figures.right = acts[0].comm in scenario.right
    else:
        figures.killed_by = "+".join(dict.fromkeys(kill.by for kill in kills)) or "-"


def _add_times(figures: Figures, kills: list[Kill], rows: list[list[Any]], result: dict[str, Any]) -> None:
    limit = result["mem_total"] * LOW_SHARE
    figures.lowest_available_mib = min(row[1] for row in rows) // 1024
    figures.psi_full_ms = (rows[-1][3] - rows[0][3]) // 1000
    low = next((row[0] for row in rows if row[1] < limit), None)
    deaths = [kill.died_s for kill in kills if kill.died_s is not None and kill.by != "kernel-memcg"]
    signals = [kill.signalled_s for kill in kills if kill.by != "kernel-memcg"]
    # Who acts on stall may act before memory is below 10 %: the clock then starts, and stops, at the signal.
    if not signals:
        return
    low = min(low, signals[0]) if low is not None else signals[0]
    figures.low_to_signal_ms = round((signals[0] - low) * 1000)
    if deaths:
        figures.low_to_death_ms = round((min(deaths) - low) * 1000)
    # From the signal on: reaped memory is back before its owner is dead.
    back = next((row[0] for row in rows if row[0] > signals[0] and row[1] >= limit), None)
    figures.low_to_memory_ms = None if back is None else round((back - low) * 1000)


def _add_database(figures: Figures, record: str, go: float, kills: list[Kill], end: float) -> None:
    data = bytes.fromhex(record)
    _, last_s, count = _HEAD.unpack_from(data)
    stalls = [_STALL.unpack_from(data, _HEAD.size + number * _STALL.size) for number in range(count)]
    figures.database_alive = all(kill.comm != "database" for kill in kills)
    if figures.database_alive and end - last_s > 0.05:
        stalls.append((last_s, end - last_s))  # it still waits
    lengths = [length for begin, length in stalls if begin + length > go]
    figures.stalled_ms = round(sum(lengths) * 1000)
    figures.worst_stall_ms = round(max(lengths, default=0.0) * 1000)


def _add_killer(figures: Figures, result: dict[str, Any]) -> None:
    before, after = result["before"], result["after"]
    if not after:
        return
    figures.rss_kib = result["peak_rss_kib"]
    main = after["pids"].get(str(after["main"]))
    figures.main_rss_kib = main["rss_kib"] if main else None
    figures.cpu_ms = round((after["cpu_s"] - before["cpu_s"]) * 1000)
    figures.major_faults = after["majflt"] - before["majflt"]


def judge(figures: Figures, scenario: Scenario) -> str:
    """``ok``, or everything that went wrong."""
    wrong = []
    if figures.ended != "poweroff":
        wrong.append(f"the guest ended by {figures.ended}")
    if figures.false_kills:
        names = sorted(
            {
                kill["comm"]
                for kill in figures.kills
                if kill["comm"] not in scenario.right and kill["by"] != "kernel-memcg"
            }
        )
        wrong.append(f"{figures.false_kills} wrong kills ({', '.join(names)})")
    if figures.kernel_kills and not scenario.kernel_may:
        wrong.append(f"{figures.kernel_kills} kernel OOM kills")
    if scenario.must_kill and figures.killed_by == "-":
        wrong.append("nobody was killed")
    if not figures.database_alive:
        wrong.append("the database died")
    return "; ".join(wrong) or "ok"
