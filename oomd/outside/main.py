"""The outside process: ``python -m oomd.outside.main OPTIONS`` with one JSON argument.

Its composition root: builds what does the work and lets the killer's events reach it. Everything that may block has a
thread and a bounded queue of its own, so that the link is always read and the killer never notices.
"""

from __future__ import annotations

import json
import marshal
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from oomd.config.compiled import modules_of, to_plain
from oomd.config.loader import load_config
from oomd.debts import put_all_back
from oomd.kernel.cgroup import CGROUP_ROOT
from oomd.kernel.tracefs import remove_instance
from oomd.model.config import Config
from oomd.model.managed import AUTO, TAKEOVER
from oomd.outside.hooks import start_hooks
from oomd.outside.killer import Killer
from oomd.outside.ledger import Ledger
from oomd.outside.link import MOST_BYTES
from oomd.outside.lmkd_properties import REQUEST as PROPERTIES
from oomd.outside.lmkd_properties import answer_properties
from oomd.outside.logcat import divert_logcat
from oomd.outside.managed import start_listener
from oomd.outside.metrics.opening import start_metrics
from oomd.outside.opening import start_control
from oomd.outside.pods import Pods, name_pods
from oomd.outside.recorder import Recorder
from oomd.outside.reporter import Reporter, note
from oomd.outside.sinks import choose_sink
from oomd.outside.telling import start_telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

QUIET_KINDS = frozenset({"start", "stop"})
TAPE_KINDS = frozenset({"seen", "rules"})
"""What only a recording is made of."""
NO_NEWS = TAPE_KINDS | {"after"}
"""What is no news for people."""


def reload_answer(options: dict[str, Any]) -> Plain:
    """What the killer is told when it asks for the configuration anew."""
    loaded = load_config(options["config_path"], overrides=options["overrides"])
    if not isinstance(loaded, Config):
        return {"ok": False, "problems": [str(problem) for problem in sorted(loaded)]}
    plain = to_plain(loaded)
    size = len(marshal.dumps(plain))
    if size > MOST_BYTES // 2:
        problem = f"the configuration is too large for a reload ({size} bytes); restart instead"
        return {"ok": False, "problems": [problem]}
    return {"ok": True, "plain": plain, "modules": modules_of(loaded)}


def main() -> None:
    """Serve the killer that started us; signals are the killer's business, the end of the link is our end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN, which every program that is started here would inherit.
        signal.signal(number, lambda *_: None)
    options = json.loads(sys.argv[1])
    killer = Killer(options["link_fd"])
    reporter = _start_reporter(options)
    killer.listen(_reports(reporter, quiet=options["quiet"]))
    killer.handle("reload", lambda _: reload_answer(options))
    killer.handle("restart_unit", _restart_unit)
    if options.get("restarts"):
        import oomd.outside.units  # noqa: F401 - now, and not at the moment when memory is short
    if options.get("lmkd_properties"):
        killer.handle(PROPERTIES, lambda _: answer_properties(options["lmkd_properties"]))
    recorder = None
    if options.get("record"):
        recorder = Recorder(options["record"], lambda text: reporter.put(note(text)))
        killer.listen(_tape(recorder))
    _hear_units(killer, options, lambda text: reporter.put(note(text)))
    hooks = start_hooks(killer, reporter.put)
    telling = start_telling(options, killer, reporter.put)
    ledger = Ledger(options.get("ledger_fd", -1))
    control = start_control(options, killer, ledger, reporter)
    metrics = start_metrics(options, killer, ledger, reporter)
    killer.serve()
    if control is not None:
        control.stop()
    if metrics is not None:
        metrics.stop()
    hooks.finish()
    telling.finish()
    _pay_debts(options, reporter)
    if recorder is not None:
        recorder.finish()
    if options["trace_instance"]:
        remove_instance(options["instances_fd"], options["trace_instance"])
    reporter.finish()
    os._exit(0)  # a sink that hangs must not keep us


def _restart_unit(event: Plain) -> Plain:
    """D-Bus is loaded only where a rule restarts units."""
    from oomd.outside.units import restart_unit

    return restart_unit(event)


def _pay_debts(options: dict[str, Any], reporter: Reporter) -> None:
    """What the killer had changed and not put back: it was killed."""
    if options.get("runtime_dir"):
        for text in put_all_back(options["runtime_dir"], options["debts_token"]):
            reporter.put(note(f"the killer has ended and had left changed: {text}"))


def _hear_units(killer: Killer, options: dict[str, Any], say: Callable[[str], object]) -> None:
    """Units' own settings; and where PID 1 takes us for systemd-oomd we answer to its name as well."""
    if options.get("managed") not in (AUTO, TAKEOVER):
        start_listener(options, killer.send, say, lambda: None)
        return
    from oomd.outside.oom1 import Oom1

    oom1 = Oom1(killer.ask, say, options.get("cgroup_root", CGROUP_ROOT))
    killer.listen(oom1.hear)
    start_listener(options, killer.send, say, oom1.take_over)


def _start_reporter(options: dict[str, Any]) -> Reporter:
    sink, remark = choose_sink(options["format"])
    if options.get("lmkd_log"):
        sink = divert_logcat(sink, options["lmkd_log"])
    reporter = Reporter(name_pods(sink, Pods()))
    if remark:
        reporter.put(note(remark))
    return reporter


def _reports(reporter: Reporter, *, quiet: bool) -> Callable[[Plain], object]:
    silent = NO_NEWS | QUIET_KINDS if quiet else NO_NEWS

    def listen(event: Plain) -> None:
        if event["event"] not in silent:
            reporter.put(event)

    return listen


def _tape(recorder: Recorder) -> Callable[[Plain], object]:
    def listen(event: Plain) -> None:
        if event["event"] in TAPE_KINDS:
            recorder.put(event)

    return listen


if __name__ == "__main__":
    main()
