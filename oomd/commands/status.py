"""``oomd status``: how the daemon stands, who would be next and why, what is under way, what it lacks."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from oomd.commands.client import DONE, Failure, add_runtime_dir, daemon, fail
from oomd.commands.kills import describe as describe_kill
from oomd.commands.options import complain
from oomd.config.problems import printable
from oomd.engine.pacing import NO_LIMIT_BYTES
from oomd.model.units import format_duration, format_size, format_span

if TYPE_CHECKING:
    import argparse

    from oomd.commands.client import Connection
    from oomd.model.report import Plain

CLEAR = "\x1b[H\x1b[2J"
LEAST_S, MOST_S = 0.2, 3600.0
NEXT_SHOWN = 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("status", help="how the daemon stands, and who would be next", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object (with --watch one per line)")
    parser.add_argument(
        "--watch",
        nargs="?",
        const="1",
        metavar="SECONDS",
        help="again and again, every second or so many, until Ctrl-C",
    )
    add_runtime_dir(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Once, or until somebody interrupts."""
    try:
        every_s = 0.0 if arguments.watch is None else float(arguments.watch)
    except ValueError:
        return complain(f"status: --watch: {arguments.watch!r} is not a number of seconds")
    if arguments.watch is not None and not LEAST_S <= every_s <= MOST_S:
        return complain(f"status: --watch: should be between {LEAST_S} and {MOST_S:.0f} seconds")
    clear = CLEAR if every_s and sys.stdout.isatty() and not arguments.json else ""
    try:
        with daemon(arguments.runtime_dir) as there:
            while True:
                answer = ask(there)
                text = json.dumps(answer) if arguments.json else printable_lines(describe(answer))
                print(f"{clear}{text}", flush=True)
                if not every_s:
                    return DONE
                time.sleep(every_s)
    except Failure as failure:
        return fail(failure)


def ask(there: Connection) -> Plain:
    """The status, with what is told of who would be next in it. Raises Failure."""
    status = there.must("status")
    following = there.ask("next")
    told = {key: value for key, value in following.items() if key not in ("version", "id")}
    return {**status, "next": told}


def printable_lines(lines: list[str]) -> str:
    """Names are chosen by those who may be killed: no terminal may obey one."""
    return "\n".join(printable(line) for line in lines)


def describe(answer: Plain) -> list[str]:
    """All of it for people."""
    state = answer["state"]
    return [
        *_daemon_lines(answer),
        *_pause_lines(answer),
        *_memory_lines(state),
        *(line for ruleset in state["rulesets"] for line in _ruleset_lines(ruleset, state)),
        *_next_lines(answer["next"]),
        *(_under_way_line(kill, state) for kill in state["kills"]),
        *_kills_lines(answer),
        *_health_lines(answer),
    ]


def _daemon_lines(answer: Plain) -> list[str]:
    daemon_, outside = answer["daemon"], answer["outside"]
    up = "" if daemon_["started"] is None else f", up {format_span(int((answer['time'] - daemon_['started']) * 1e6))}"
    mode = ", dry run: nobody is signalled" if daemon_["dry_run"] else ""
    lines = [f"oomd {answer['oomd']} (pid {daemon_['pid']}) watches {daemon_['scope']}{up}{mode}"]
    config = outside.get("config") or "the embedded default"
    reload = answer["reload"]
    if reload is None:
        lines.append(f"configuration: {config}")
    else:
        lines.append(f"configuration: {config}; {_clock(reload['time'])} {reload['text']}")
        lines += [f"  {problem}" for problem in reload["problems"]]
    return lines


def _pause_lines(answer: Plain) -> list[str]:
    pause = answer["pause"]
    if pause is None:
        return []
    left = format_span(pause["left_us"])
    return [f"PAUSED until {_clock(pause['until'])} ({left} more) by {pause['by']}: {pause['why']}"]


def _memory_lines(state: Plain) -> list[str]:
    status = state["status"]
    if status is None:
        return ["memory: not looked at yet"]
    line = f"memory: {format_size(status['available_bytes'])} of {format_size(status['base_bytes'])} available"
    if status["budget"] is not None:
        line += f" (budget, usage from {status['budget']['source']})"
    elif status["swap_total_bytes"]:
        line += f", swap: {format_size(status['swap_free_bytes'])} of {format_size(status['swap_total_bytes'])} free"
    headroom = state["headroom_bytes"]
    if 0 < headroom < NO_LIMIT_BYTES:
        line += f"; {format_size(headroom)} above the nearest limit"
    elif headroom < 0:
        line += f"; {format_size(-headroom)} below a limit"
    stall = [
        f"{name} {format_duration(status[key])}"
        for name, key in (("some", "psi_some_us"), ("full", "psi_full_us"))
        if status[key] is not None
    ]
    return [line, f"memory pressure since boot: {', '.join(stall)}" if stall else "memory pressure: not told here"]


def _ruleset_lines(ruleset: Plain, state: Plain) -> list[str]:
    now_us = 0 if state["status"] is None else state["status"]["time_us"]
    word = "quiet"
    if ruleset.get("fired"):
        word = "fires, critical" if ruleset["critical"] else "fires"
    elif ruleset.get("since_us") is not None:
        word = "holds, and waits"
    if ruleset.get("since_us") is not None:
        word += f" for {format_span(now_us - ruleset['since_us'])}"
    if ruleset["paused_until_us"] > now_us:
        word += f", rests for {format_span(ruleset['paused_until_us'] - now_us)} more"
    lines = [f"ruleset {ruleset['ruleset']}: {word}"]
    return lines + [f"  {'x' if piece['holds'] else '-'} {piece['text']}" for piece in ruleset.get("evidence", ())]


def _next_lines(answer: Plain) -> list[str]:
    if not answer["ok"]:
        return [f"next: {answer['text']}"]
    if answer["next"] is None:
        return [f"next: not looked at: {answer['why']}"]
    age = ""
    if not answer["fresh"]:
        age = f" (as of {format_span(answer['age_us'])} ago: {answer['why']})"
    ranking = answer["next"]["ranking"]
    if not ranking:
        return [f"next: nobody may be killed{age}"]
    lines = [f"next{age}:"]
    for place, each in enumerate(ranking[:NEXT_SHOWN], 1):
        who = f"{each['kind']} {each['name']}" if "kind" in each else f"{each['comm']} ({each['pid']})"
        because = f" ({each['because']})" if each["because"] else ""
        preference = "" if each["preference"] == "normal" else f", {each['preference']}{because}"
        adj = f", oom_score_adj {each['oom_score_adj']}" if each["oom_score_adj"] else ""
        lines.append(f"  {place}. {who} gives back {format_size(each['freeable_bytes'])}{adj}{preference}")
    return lines


def _under_way_line(kill: Plain, state: Plain) -> str:
    who = f"{kill['comm']} ({kill['pid']})"
    back = f"{format_size(kill['returned_bytes'])} of {format_size(kill['expected_bytes'])} back"
    left_us = kill["deadline_us"] - state["status"]["time_us"]
    counts = {"term": "grace", "kill": "counted as available", "dead": "counted as available"}[kill["phase"]]
    phase = {"term": "was asked to go", "kill": "was killed", "dead": "is dead"}[kill["phase"]]
    return f"under way: #{kill['id']} {who} {phase}, {back}; {counts} for {format_duration(max(0, left_us))} more"


def _kills_lines(answer: Plain) -> list[str]:
    if not answer["kills"]:
        return ["kills: none since the start"]
    lines = [f"kills: {answer['kills_total']} since the start; the last:"]
    return lines + [f"  {line}" for kill in answer["kills"] for line in describe_kill(kill)]


def _health_lines(answer: Plain) -> list[str]:
    daemon_, outside, state = answer["daemon"], answer["outside"], answer["state"]
    shield = [
        word
        for word, there in (
            ("memory locked", daemon_["locked"]),
            ("real-time", daemon_["realtime"]),
            ("spared by the kernel", daemon_["shielded"]),
        )
        if there
    ]
    lines = [f"reaper: {daemon_['reaper']}; itself: {', '.join(shield) or 'not protected'}"]
    now_us = 0 if state["status"] is None else state["status"]["time_us"]
    if state["resting_until_us"] > now_us:
        rest = format_span(state["resting_until_us"] - now_us)
        lines.append(f"degraded: kills returned almost nothing; resting for {rest} more")
    lines += [f"degraded: {each['text']}" for each in answer["degraded"]]
    lost = daemon_["reports_dropped"] + outside["reports_not_written"]
    if lost:
        lines.append(f"degraded: {lost} reports were lost")
    if outside["starts"] > 1:
        lines.append(f"degraded: the outside process was started {outside['starts']} times")
    return lines


def _clock(seconds: float) -> str:
    form = "%H:%M:%S" if abs(time.time() - seconds) < 12 * 3600 else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(seconds))
