"""Metrics as the outside process runs them: counting, keeping the counts, serving and writing them."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING, Any

from oomd.config.addresses import Address
from oomd.outside.metrics.exposition import Exposition
from oomd.outside.metrics.figures import ANSWER_S, Figures
from oomd.outside.metrics.listening import inherited_listener
from oomd.outside.metrics.respond import refuse, respond
from oomd.outside.metrics.web import RETRY_S, Web
from oomd.outside.pods import Pods
from oomd.outside.replacement import PUBLIC, replace_file
from oomd.outside.reporter import note

if TYPE_CHECKING:
    from oomd.model.report import Plain
    from oomd.outside.killer import Killer
    from oomd.outside.ledger import Ledger
    from oomd.outside.metrics.client import Client
    from oomd.outside.reporter import Reporter

PAGE = "metrics"
"""The name of our page in the ledger."""
WRITE_S = 15.0
"""How often the file is written."""
KEEP_S = 0.1
"""The shortest time between two writes, however many reports come."""
STOP_S = 1.0
_HINTS = {
    errno.EAFNOSUPPORT: "; oomd.service has no network: enable oomd-metrics.socket instead",
    errno.EROFS: "; oomd.service may not write there: its drop-in oomd-textfile.conf permits it",
}
"""What its own unit keeps it from, and what to do about it."""


class Service:
    """Everything about metrics in this process."""

    def __init__(self, options: dict[str, Any], killer: Killer, ledger: Ledger, reporter: Reporter) -> None:
        """``options``: ``listen`` (addresses), ``textfile`` (a path, or empty), ``fds`` (sockets of systemd's)."""
        self._ledger = ledger
        self._reporter = reporter
        self._figures = Figures(
            lambda: _standing(killer.ask("status", ANSWER_S)), ledger.page(PAGE), lambda: reporter.dropped
        )
        self._exposition = Exposition(self._figures.take)
        self._pods = Pods()
        self._textfile = str(options["textfile"])
        self._failures: dict[object, str] = {}
        """What cannot be had, and why: told once, until it changes."""
        self._keeping = threading.Lock()
        self._news = threading.Event()
        self._stopping = False
        self._keeper = threading.Thread(target=self._keep_on, name="metrics-keeper", daemon=True)
        addresses = tuple(Address.of(text) for text in options["listen"])
        self._web = Web(
            addresses,
            self._answer,
            on_ready=lambda address: self._mend(address, f"metrics are served on {address}"),
            on_failure=lambda address, error: self._fail(address, f"metrics cannot be served on {address}", error),
            on_end=self._count_client,
            inherited=tuple(inherited_listener(fd) for fd in options.get("fds", ())),
        )
        killer.listen(self.listen)

    def start(self) -> None:
        """Begin."""
        self._news.set()
        self._keeper.start()
        self._web.start()

    def stop(self) -> None:
        """The killer has ended: serve no more, write a last file that says so."""
        if self._stopping:
            return
        self._stopping = True
        self._news.set()
        self._web.stop()
        self._keeper.join(STOP_S)
        self._figures.take(last=True)
        self._keep()
        self._write()

    def listen(self, event: Plain) -> None:
        """Count a report of the killer's; quick, and never raises."""
        try:
            counts = self._figures.note(event)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self._reporter.put(note(f"a report that cannot be counted ({error!r}): {event!r}"))
            return
        if counts:
            self._keep()  # at once: whatever happens to this process next, a scrape has seen this count
            self._news.set()

    def _answer(self, head: bytes) -> tuple[bytes, int]:
        try:
            return respond(head, self._exposition.render)
        except Exception as error:  # noqa: BLE001 - a bug costs this scrape and is told; the server stays
            self._fail("answer", "a request for metrics failed", OSError(0, repr(error)))
            return refuse(500)

    def _keep_on(self) -> None:
        """Find names, keep them, and write the file."""
        while not self._stopping:
            self._news.wait(WRITE_S)
            self._news.clear()
            self._figures.name_pods(self._pods.names)
            self._keep()
            self._write()
            time.sleep(KEEP_S)

    def _keep(self) -> None:
        """Some 70 µs; an older page must not come after a newer one."""
        with self._keeping:
            self._ledger.keep(PAGE, self._figures.page())

    def _write(self) -> None:
        if not self._textfile:
            return
        try:
            replace_file(self._textfile, self._exposition.text(), PUBLIC)
        except OSError as error:
            self._fail(self._textfile, f"metrics cannot be written to {self._textfile}", error, WRITE_S)
        else:
            self._mend(self._textfile, f"metrics are written to {self._textfile}")

    def _count_client(self, client: Client, why: str) -> None:
        if why:
            self._figures.add("oomd_metrics_connections_dropped_total", 1, why)
        if client.status:
            self._figures.add("oomd_metrics_requests_total", 1, str(client.status))

    def _fail(self, what: object, text: str, error: OSError, again_s: float = RETRY_S) -> None:
        why = (error.strerror or str(error)) + _HINTS.get(error.errno or 0, "")
        if self._failures.get(what) != why:
            self._failures[what] = why
            text = f"{text} ({why}); trying again every {again_s:.0f} s"
            event = {"event": "degraded", "time": time.time(), "text": text}
            self._reporter.put(event)
            self._figures.note(event)

    def _mend(self, what: object, text: str) -> None:
        if self._failures.pop(what, None) is not None:
            self._reporter.put(note(f"{text} now"))


def _standing(answer: Plain | None) -> Plain | None:
    return answer["status"] if answer is not None and answer.get("ok") else None
