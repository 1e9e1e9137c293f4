"""The command line: options of oomd and of each command.

Apart from the entry, because ``argparse`` takes its time to load.
"""

from __future__ import annotations

import argparse
import importlib
import os

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
