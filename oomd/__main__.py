"""``python -m oomd`` and the ``oomd`` command."""

from __future__ import annotations

import gc
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from oomd.commands.scout import Scout


def open_standard_descriptors() -> None:
    """Where standard input, output or error is closed, /dev/null takes its place: else the next file opened would get
    its number, and reports would be written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one


def _find_our_place(arguments: argparse.Namespace) -> None:
    """In the machine's tree of cgroups; trees of other machines have nothing to do with it."""
    from oomd.kernel.cgroup import CGROUP_ROOT
    from oomd.kernel.cgroup_namespace import enter_namespace, find_namespace_root

    elsewhere = any(getattr(arguments, name, None) for name in ("proc", "cgroup", "path"))
    enter_namespace("" if elsewhere else find_namespace_root(CGROUP_ROOT))


def _send_scout(words: list[str]) -> Scout | None:
    """Where this process is to become a killer: the scout, in which everything goes on."""
    if words[:1] not in (["run"], ["exec"]):
        return None
    gc.disable()  # all that is made from here to the killer's image is needed until then
    scout = None
    if words[0] == "run":
        from oomd.commands.scout import send_scout

        scout = send_scout()
    from oomd.loading import load_packed

    load_packed(os.path.dirname(os.path.abspath(__file__)))
    return scout


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status (2: a mistake in what the user wrote)."""
    open_standard_descriptors()
    words = sys.argv[1:] if argv is None else argv
    scout = _send_scout(words) if argv is None else None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without our letters is no reason to fail
    from oomd.commands.line import build_parser

    arguments = build_parser(words[0] if words else "").parse_args(words)
    arguments.scout = scout
    _find_our_place(arguments)
    try:
        status: int = arguments.run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
