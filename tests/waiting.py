"""Waiting for one descriptor, whatever its number: select(2) stops at 1024, and a long run of tests does not."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


def is_ready(what: FileDescriptorLike, patience_s: float = 0.0, events: int = select.POLLIN) -> bool:
    """Whether it can be read (or written, with POLLOUT) within so many seconds, or has ended."""
    poll = select.poll()
    poll.register(what, events)
    return bool(poll.poll(max(0.0, patience_s) * 1000))
