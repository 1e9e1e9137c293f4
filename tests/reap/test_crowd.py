"""Several victims of one kill."""

from __future__ import annotations

import os
import signal

from oomd.reap.crowd import Crowd
from tests.reap.victims import hold, warrants_of


def test_who_gets_on_is_left_alone() -> None:
    """One after the other ends by itself: nobody is left to be helped. Whoever gets nowhere is, after a moment; those
    who ended meanwhile are not.
    """
    children = [hold(1) for _ in range(4)]
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    with warrants_of(*children) as warrants:
        crowd = Crowd([(warrant, warrant.pidfd) for warrant in warrants], proc_fd)
        for child in children[:3]:
            child.kill()
            child.wait(90)
        assert crowd.leave_alone() == [(warrants[3], warrants[3].pidfd)]
        children[3].send_signal(signal.SIGKILL)
        children[3].wait(90)
        assert crowd.leave_alone() == []
    os.close(proc_fd)
