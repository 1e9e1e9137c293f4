"""Who else can change a file: what has programs run for root must be root's alone, with every folder above it."""

from __future__ import annotations

import os
import stat

MOST_LINKS = 40
"""As the kernel follows."""
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def why_untrusted(path: str, *, uid: int | None = None) -> str:
    """Why somebody else than root (and the user ``uid``; left out: ours) can change what lies there, in words; empty
    where nobody can. Raises OSError where it cannot be looked at.

    Every step of the path is looked at, and where a link leads. In a folder that everybody may write and where nobody
    may remove what is not his (``/tmp``), what belongs to a trusted user stays as it is.
    """
    trusted = {0, os.geteuid() if uid is None else uid}
    pending, seen, links = [os.path.join(os.getcwd(), path)], set[str](), 0
    while pending:
        for step in _steps(pending.pop()):
            if step in seen:
                continue
            seen.add(step)
            facts = os.lstat(step)
            if facts.st_uid not in trusted:
                return f"{step} belongs to uid {facts.st_uid}"
            if stat.S_ISLNK(facts.st_mode):
                links += 1
                if links > MOST_LINKS:
                    return f"{step} leads through too many links"
                pending.append(os.path.join(os.path.dirname(step), os.readlink(step)))
            elif facts.st_mode & _OTHERS and not (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX):
                return f"others may write {step} (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""


def _steps(path: str) -> list[str]:
    """``/``, ``/a``, ``/a/b`` of ``/a/b``; ``..`` stays where it is, because a link may stand before it."""
    steps = ["/"]
    for name in path.split("/"):
        if name and name != ".":
            steps.append(os.path.join(steps[-1], name))
    return steps
