"""The command that ``oomd exec`` guards: signals are passed on to it, and its end is ours."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C module alone: `signal` brings enum

PASSED_ON = (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH, signal.SIGCONT)
"""What is handed on besides the signals that stop a daemon."""


def pass_signal(child_pid: int, number: int) -> None:
    """Hand a signal on to the command that we started: our child, not yet waited for, so its pid is nobody else's."""
    try:
        os.kill(child_pid, number)
    except OSError:
        return  # it has ended, or has become another user's


def wait_children(child_pid: int) -> int | None:
    """Wait for every child that has ended, without blocking. The exit status of the command if it is among them, 128
    plus the signal's number for a killed one; None otherwise.
    """
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child_pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def pass_on(child_pid: int, number: int) -> None:
    """Hand a signal on, unless a terminal has sent it to the command itself."""
    from_terminal = number in (signal.SIGINT, signal.SIGQUIT) and os.isatty(0)
    if not from_terminal:
        pass_signal(child_pid, number)
