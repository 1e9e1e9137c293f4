"""``python -m oomd`` and the ``oomd`` command."""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import sys

from oomd import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULES = {
    **{name: name for name in ("run", "exec", "lmkd", "status", "kills", "pause")},
    "resume": "pause",
    "reload": "reload",
    "kill-now": "kill_now",
    **{name: name for name in ("explain", "replay", "check")},
    **dict.fromkeys(("detectors", "policies", "actions"), "rules"),
    **{name: name for name in ("demo", "bench")},
}
"""Each command with the module that has it, in the order of the help."""


class Parser(argparse.ArgumentParser):
    """Of oomd, and of each command."""

    def __init__(self, **words: Any) -> None:  # noqa: ANN401 - as argparse has it
        super().__init__(**{"formatter_class": _formatter} | words)


def _formatter(prog: str) -> argparse.HelpFormatter:
    """As wide as the terminal, without ``shutil``, which argparse would load (with all kinds of archives) for each
    option that is declared.
    """
    return argparse.HelpFormatter(prog, width=_columns() - 2)


def _columns() -> int:
    """COLUMNS, or those of the terminal; 80 where there is none."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """The whole command line; of a command that there is only its own part: whoever asks for the status of a starving
    machine must not wait for all the others.
    """
    parser = Parser(prog="oomd", description="A user-space out-of-memory killer that gets the memory back at once.")
    parser.add_argument("--version", action="version", version=f"oomd {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="oomd")
    wanted = [MODULES[command]] if command in MODULES else dict.fromkeys(MODULES.values())
    for name in wanted:
        importlib.import_module(f"oomd.commands.{name}").add_parser(subparsers)
    return parser


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


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status (2: a mistake in what the user wrote)."""
    open_standard_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without our letters is no reason to fail
    words = sys.argv[1:] if argv is None else argv
    if argv is None and words[:1] in (["run"], ["exec"]):
        gc.disable()  # all that is made from here to the killer's image is needed until then
    arguments = build_parser(words[0] if words else "").parse_args(words)
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
