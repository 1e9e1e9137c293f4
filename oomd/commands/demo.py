"""``oomd demo``: see it work, in processes of its own and a budget of its own; no root, under a minute, nothing left
behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time

import psutil

from oomd.model.units import MIB, format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import IO

    from oomd.model.report import Plain

BUDGET_BYTES = 512 * MIB
LONGEST_S = 55.0
REDRAW_S = 0.2
BAR = 40


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = subparsers.add_parser("demo", help="see it work, harmlessly", description=__doc__)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - the demo has no options
    """Play the demo. 0 when the right ones died and the bystander lived."""
    print(f"A budget of {format_size(BUDGET_BYTES)} for a few processes of our own; nobody else is touched.\n")
    guarded = [sys.executable, "-m", "oomd.commands.actors", "stage"]
    budget = f"{BUDGET_BYTES // MIB}MiB"
    command = [sys.executable, "-m", "oomd", "exec", "--budget", budget, "--log-format", "json", "--", *guarded]
    play = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    view = View(play.pid)
    try:
        status = _watch(play, view)
    finally:
        _end(play)
    return 0 if view.verdict(status) else 1


class View:
    """What the audience sees: a live line on a terminal, plain lines elsewhere, and what happened."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._live = sys.stdout.isatty()
        self._drawn = 0.0
        self._victims: dict[str, str] = {}
        self.killed: list[str] = []
        self.bystander_lives = False

    def show(self, line: str) -> None:
        """One line of what the play or the killer said."""
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                self._show_event(event)
            return
        if line == "the bystander lives":
            self.bystander_lives = True
        self._print(f"\n{line}" if line.startswith("act") else line)

    def draw(self) -> None:
        """The use of the budget, and who uses it."""
        if time.monotonic() - self._drawn < (REDRAW_S if self._live else 5 * REDRAW_S):
            return
        self._drawn = time.monotonic()
        sizes = _sizes(self._pid)
        used = sum(size for _, size in sizes)
        filled = min(BAR, BAR * used // BUDGET_BYTES)
        cast = "  ".join(f"{name} {format_size(size)}" for name, size in sizes if size > 16 * MIB)
        line = f"  [{'#' * filled}{'.' * (BAR - filled)}] {format_size(used):>8}  {cast}"
        if self._live:
            sys.stdout.write(f"\r\x1b[K{line[: os.get_terminal_size().columns - 1]}")
            sys.stdout.flush()
        else:
            print(line)

    def verdict(self, status: int) -> bool:
        """Say how it ended."""
        right = {"leaker", "hog"} <= set(self.killed) and self.bystander_lives and status == 0
        self._print("")
        if right:
            self._print("The leaker and the hog are gone, the bystander lives, and nothing of this is left behind.")
        else:
            self._print(f"Not as it should be: killed {', '.join(self.killed) or 'nobody'}, exit status {status}.")
        return right

    def _show_event(self, event: Plain) -> None:
        kind = event.get("event")
        if kind == "decision":
            self._show_decision(event)
        elif kind == "escalation":
            self._print(f"  -> SIGKILL to {self._victims.get(event['id'], event['pid'])}: {event['why']}")
        elif kind == "outcome":
            self._show_outcome(event)

    def _show_decision(self, event: Plain) -> None:
        target = event["decision"]["target"]
        if target is None:
            return
        self._victims[event["id"]] = target["comm"]
        signal = "SIGTERM" if event["decision"]["action"] == "term" else "SIGKILL"
        self._print(f"  -> {signal} to {target['comm']} ({target['pid']})\n     {event['decision']['reason']}")

    def _show_outcome(self, event: Plain) -> None:
        self.killed.append(event["comm"])
        reap = event["reap"]
        how = (
            f", reaped in {format_duration(reap['duration_us'])}"
            if reap["errno"] == 0 and reap["backend"] == "mrelease"
            else ""
        )
        back = event["signal_to_memory_us"]
        when = f" {format_duration(back)} after the signal" if back is not None else ""
        hindered = f" [hindered by {', '.join(event['hindrances'])}]" if event["hindrances"] else ""
        self._print(
            f"  <- {event['comm']} {event['status']}: {format_size(event['returned_bytes'])} back{when}{how}{hindered}"
        )

    def _print(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._live else text)


def _watch(play: subprocess.Popen[str], view: View) -> int:
    """Show lines as they come until the play has ended."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert play.stdout is not None
    assert play.stderr is not None
    readers = [
        threading.Thread(target=_pump, args=(stream, lines), daemon=True) for stream in (play.stdout, play.stderr)
    ]
    for reader in readers:
        reader.start()
    end = time.monotonic() + LONGEST_S
    while any(reader.is_alive() for reader in readers) and time.monotonic() < end:
        with contextlib.suppress(queue.Empty):
            view.show(lines.get(timeout=REDRAW_S / 2))
        view.draw()
    while not lines.empty():
        view.show(lines.get())
    return play.wait(timeout=5) if time.monotonic() < end else 1


def _pump(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    for line in stream:
        lines.put(line.rstrip("\n"))


def _sizes(pid: int) -> list[tuple[str, int]]:
    """Name and private memory of the play's processes, largest first."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                memory = process.memory_info()
                found.append((process.name(), memory.rss - memory.shared))
    return sorted(found, key=lambda pair: -pair[1])


def _end(play: subprocess.Popen[str]) -> None:
    """Leave nothing behind, however the demo ended."""
    if play.poll() is None:
        cast = []
        with contextlib.suppress(psutil.Error):
            cast = psutil.Process(play.pid).children(recursive=True)
        for process in cast:
            with contextlib.suppress(psutil.Error):
                process.kill()
        play.kill()
        play.wait()
