"""Entry of the killer's image: prepares the interpreter, then runs the daemon."""

from __future__ import annotations

import _thread
import marshal
import os
import sys

from oomd.daemon import Daemon
from oomd.kernel.syscalls import prctl_set_name, share_heap
from oomd.kill.warrant import GateError
from oomd.model.scope import ScopeError
from oomd.options import Options
from oomd.ward import pass_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C module alone: `signal` brings enum

SWITCH_INTERVAL_S = 1e-4
"""How long a busy thread of ours keeps the interpreter: a handoff costs 8 ms at p99 by default, 0.3 ms so."""
STACK_BYTES = 256 * 1024
"""Locked memory counts whole thread stacks; ours need a few KiB."""


def _restore(locale: str | None) -> None:
    """LC_ALL as it was, for whom we start: stage one had us begin without a locale."""
    os.environ.pop("LC_ALL", None)
    if locale is not None:
        os.environ["LC_ALL"] = locale


def main() -> None:
    """Entry of the killer's image; the argument is the descriptor of a memfd that holds the marshalled options."""
    fd = int(sys.argv[1])
    with os.fdopen(fd, "rb") as file:
        options = Options(**marshal.loads(file.read()))  # noqa: S302 - written by our own first stage
    for kept in (options.link_fd, options.lock_fd, options.trace_fd, options.lmkd_fd):
        if kept >= 0:
            os.set_inheritable(kept, False)
    prctl_set_name(b"oomd")
    share_heap()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _thread.stack_size(STACK_BYTES)
    _restore(options.locale)
    try:
        daemon = Daemon(options)
    except (ScopeError, GateError) as error:
        sys.stderr.write(f"oomd: {error}\n")
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)  # never leave the command running unguarded
        sys.exit(2)
    except BaseException:
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)
        raise
    try:
        status = daemon.run()
    except BaseException:
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)
        raise
    sys.exit(status)
