"""``oomd lmkd``: take the place of Android's lmkd. Clients register processes on its control socket, and nobody else is
ever killed.
"""

from __future__ import annotations

from oomd.commands import run as run_command
from oomd.lmkd.wire import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("lmkd", help="take the place of Android's lmkd", description=__doc__)
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="where to listen (default: /dev/socket/lmkd, unless init or systemd passes a socket)",
    )
    parser.add_argument("--scope", metavar="SCOPE", help="whom oomd may touch: machine (default), tree:PID, cgroup:…")
    parser.add_argument("--properties", metavar="FILE", help="a file of properties (ro.lmk.…), name=value per line")
    parser.add_argument("--log", metavar="FILE", help="append log lines in logcat's shape to this file")
    parser.add_argument("--protocol", choices=tuple(LEVELS), help="the Android release to speak (default: A15)")
    parser.add_argument(
        "--compatible", action="store_true", help="a fourth client replaces the others; senders are not looked at"
    )
    parser.add_argument("--dry-run", action="store_true", help="decide and report, but never touch anybody")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where lock and control socket live; one per directory")
    parser.add_argument("--log-format", choices=("text", "json", "journal"), help="how to report (default: text)")
    parser.set_defaults(
        run=run_command.run, config=None, budget=None, proc=None, cgroup=None, record=None, only_registered=True
    )
