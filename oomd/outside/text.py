"""Events as lines for people: one event, few short lines."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from oomd.model.units import format_duration, format_size

if TYPE_CHECKING:
    from oomd.model.report import Plain

REJECTED_SHOWN = 3
RANKED_SHOWN = 3
_SIGNALS = {"term": "SIGTERM", "kill": "SIGKILL"}
SAID_SHOWN = 5
"""Lines of what a hook said."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""Names are chosen by those who may be killed: no line of ours may end in one, no terminal may obey one."""


def describe_event(event: Plain) -> list[str]:
    """The lines of one event, the first with its time."""
    describe = _KINDS.get(event["event"], _describe_other)
    lines = describe(event)
    stamp = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    clean = [line.translate(_CONTROLS) for line in lines]
    return [f"{stamp} {line}" if number == 0 else f"         {line}" for number, line in enumerate(clean)]


def _describe_start(event: Plain) -> list[str]:
    report = event["report"]
    swap = ", ".join(
        f"{device['name']} ({device['kind']}, {format_size(device['size_bytes'])})" for device in report["swap"]
    )
    mode = "dry run: nobody is signalled" if event.get("dry_run") else f"reaper {report['reaper']}"
    shield = [word for word, there in (("locked", report["locked"]), ("shielded", report["shielded"])) if there]
    if report["realtime"]:
        shield.append("real-time")
    return [
        f"oomd watches {event['scope']} (pid {event['pid']}, {mode})",
        f"kernel {report['kernel']}, cgroup {report['cgroup']}, pressure {'on' if report['psi'] else 'off'}",
        f"swap: {swap or 'none'}",
        f"itself: {', '.join(shield) or 'not protected'}",
        *(f"lost: {text}" for text in report["lost"]),
    ]


def _describe_decision(event: Plain) -> list[str]:
    decision = event["decision"]
    target = decision["target"]
    dry = "would send " if event.get("dry_run") else ""
    if target is None:
        return [f"#{event['id']} {decision['action']}: {decision['reason']}"]
    signal = _SIGNALS.get(decision["action"], "")
    who = _name(target)
    if not signal:
        return [f"#{event['id']} {'would ' if event.get('dry_run') else ''}{decision['action']}: {decision['reason']}"]
    if target["kind"] != "process":
        who = f"{target['kind']} {target['name']} ({decision['processes']} processes, the largest {who})"
    lines = [f"#{event['id']} {dry}{signal} to {who}: {decision['reason']}"]
    lines += [
        f"next {place}: {_name_of_set(each)} {format_size(each['freeable_bytes'])}"
        for place, each in enumerate(event["ranking"][1 : RANKED_SHOWN + 1], 2)
    ]
    lines += [f"spared: {_name_of_set(each)} {each['why']}" for each in event["rejected"][:REJECTED_SHOWN]]
    return lines


def _describe_step(event: Plain) -> list[str]:
    whom = f" {_name_of_set(event)}" if "pid" in event else ""
    words = [f"#{event['id']} {event['action']}{whom}: {event['status'].replace('_', ' ')}"]
    if event["status"] == "put_back":
        words.append(f"after {format_duration(event['took_us'])}")
    elif event["status"] != "impossible":
        gained = event["gained_bytes"]
        words.append(
            f"{format_size(abs(gained))} {'more' if gained >= 0 else 'less'} available after"
            f" {format_duration(event['took_us'])}"
        )
    if event["taken_bytes"]:
        words.append(f"{format_size(event['taken_bytes'])} taken in {format_duration(event['worked_us'])}")
    if event["why"]:
        words.append(event["why"])
    return [", ".join(words)]


def _describe_proactive(event: Plain) -> list[str]:
    verb = "would be taken" if event["dry_run"] else "taken"
    total = sum(each["taken_bytes"] for each in event["cgroups"])
    lines = [f"proactive: {format_size(total)} {verb} over {format_duration(event['over_us'])}"]
    for each in event["cgroups"]:
        why = f" ({each['why']})" if each["why"] else ""
        lines.append(f"{each['cgroup']}: {format_size(each['taken_bytes'])}{why}")
    return lines


def _describe_outcome(event: Plain) -> list[str]:
    reap = event["reap"]
    words = [f"#{event['id']} {_name(event)} {event['status'].replace('_', ' ')}"]
    if event["detail"]:
        words.append(event["detail"])
    if event["signal_to_death_us"] is not None:
        words.append(f"dead after {format_duration(event['signal_to_death_us'])}")
    back = f"{format_size(event['returned_bytes'])} of {format_size(event['expected_bytes'])} back"
    if event["signal_to_memory_us"] is not None:
        back += f" after {format_duration(event['signal_to_memory_us'])}"
    words.append(back)
    if reap["backend"]:
        words.append(_reap_words(reap))
    if event["hindrances"]:
        words.append(f"hindered by {', '.join(event['hindrances'])}")
    if event.get("lifted"):
        words.append(f"lifted: {', '.join(event['lifted'])}")
    return [", ".join(words)]


def _reap_words(reap: Plain) -> str:
    if reap["backend"] == "none":
        return "not reaped"
    if reap["errno"] == 0:
        return f"reaped by {reap['backend']} in {format_duration(reap['duration_us'])}"
    if reap["errno"] == errno.ESRCH:
        return f"it was quicker than {reap['backend']}"
    if reap["errno"] == errno.EINVAL:
        return "not reaped: a process that shares its memory lives, or it dumps core"
    if reap["errno"] == errno.ENOSYS:
        return f"{reap['backend']} without process_mrelease"
    return f"{reap['backend']} failed: {os.strerror(reap['errno'])}"


def _describe_hastened(event: Plain) -> list[str]:
    words = [f"{_name(event)}, killed by somebody else, owned {format_size(event['expected_bytes'])}"]
    words.append(_reap_words(event["reap"]))
    if event["hindrances"]:
        words.append(f"hindered by {', '.join(event['hindrances'])}")
    if event["lifted"]:
        words.append(f"lifted: {', '.join(event['lifted'])}")
    if event["untold"]:
        words.append(f"after {event['untold']} more of which nothing was told")
    return [", ".join(words)]


def _describe_escalation(event: Plain) -> list[str]:
    return [f"#{event['id']} SIGKILL to {event['pid']}: {event['why']}"]


def _describe_refused(event: Plain) -> list[str]:
    return [f"#{event['id']} {event['comm']} ({event['pid']}) {event['why']}: next candidate"]


def _describe_hook(event: Plain) -> list[str]:
    took = format_duration(event["took_us"])
    ends = {"done": f"done after {took}", "late": f"given up after {took}", "not_started": "could not be started"}
    words = ends.get(event["status"], f"failed after {took}")
    if event["exit_status"]:
        words += f" with exit status {event['exit_status']}"
    if event["signal"]:
        words += f" by signal {event['signal']}"
    said = event["text"].splitlines()
    return [f"#{event['id']} hook {event['stage']}: {event['hook']} {words}", *said[:SAID_SHOWN]]


def _describe_shortage(event: Plain) -> list[str]:
    available = format_size(event["status"]["available_bytes"])
    return [f"programs are asked to trim: level {event['level']}, {available} available"]


def _describe_reload(event: Plain) -> list[str]:
    return [event["text"], *event["problems"]]


def _describe_stop(event: Plain) -> list[str]:
    counters = ", ".join(f"{name} {value}" for name, value in event["counters"].items())
    return [f"{event['text']} ({counters})"]


def _describe_lmkd(event: Plain) -> list[str]:
    return [f"{event['letter']} {event['tag']}: {event['text']}"]


def _describe_other(event: Plain) -> list[str]:
    return [f"{event['event']}: {event.get('text', '')}"]


def _name_of_set(event: Plain) -> str:
    """A group, session or cgroup by what it is, a process by its name."""
    return f"{event['kind']} {event['name']}" if "kind" in event else _name(event)


def _name(event: Plain) -> str:
    return f"{event['comm']} ({event['pid']}){_in_pod(event)}"


def _in_pod(event: Plain) -> str:
    """As people know it; else nothing, because a uid tells nobody anything."""
    if not event.get("pod_name"):
        return ""
    container = f", container {event['container_name']}" if event.get("container_name") else ""
    return f" of pod {event['namespace']}/{event['pod_name']}{container}"


_KINDS = {
    "start": _describe_start,
    "decision": _describe_decision,
    "outcome": _describe_outcome,
    "hastened": _describe_hastened,
    "step": _describe_step,
    "proactive": _describe_proactive,
    "escalation": _describe_escalation,
    "refused": _describe_refused,
    "hook": _describe_hook,
    "shortage": _describe_shortage,
    "reload": _describe_reload,
    "stop": _describe_stop,
    "lmkd": _describe_lmkd,
}
