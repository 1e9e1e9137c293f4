"""An object that we offer on the message bus, under a name: as long as we live, and again whenever the bus has been
away.

One thread keeps the connection, another does what callers ask for, so that a method may take its time. Who may call is
the bus's affair (its policy); here every caller gets the same.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from oomd.outside.dbus import AUTH_S, BUS, SYSTEM, Bus, BusError
from oomd.outside.served import find_method

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.outside.dbus import Call
    from oomd.outside.served import Served

RETRY_S = 5.0
MOST_WAITING = 16
"""Calls and signals that wait for their turn."""
DO_NOT_QUEUE = 4
OWNED = (1, 4)
"""Answers to RequestName: it is ours, now or already."""


class Station:
    """Offers one object."""

    def __init__(self, served: Served, say: Callable[[str], object], address: str = SYSTEM) -> None:
        """``say`` tells people something, each thing once in a row."""
        self._served = served
        self._say = say
        self._said = ""
        self._address = address
        self._bus: Bus | None = None
        self._closing = threading.Event()
        self._work: queue.Queue[Callable[[], object] | None] = queue.Queue(MOST_WAITING)
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._keep, "station"), (self._do_work, "station-work"))
        ]

    def start(self) -> None:
        """Be there from now on, in threads that end with the process."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Be gone."""
        self._closing.set()
        bus = self._bus
        if bus is not None:
            bus.close()
        self._work.put(None)
        for thread in self._threads:
            thread.join()

    def emit(self, signal: str, *values: object) -> bool:
        """Have a signal of the object sent, as soon as its turn comes; whether it may be."""
        bus, served = self._bus, self._served
        if bus is None:
            return False
        try:
            self._work.put_nowait(
                lambda: bus.emit(served.path, served.interface, signal, values, signature=served.signals[signal])
            )
        except queue.Full:
            return False
        return True

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                bus = Bus(self._address, descriptors=True, on_call=self._take)
            except BusError as error:
                self._once(str(error))
                self._closing.wait(RETRY_S)
                continue
            why = self._take_name(bus)
            if why:
                self._once(why)
                bus.close()
            else:
                self._bus, self._said = bus, ""
                if self._closing.is_set():
                    bus.close()
                bus.wait_lost()
                self._bus = None
            self._closing.wait(RETRY_S)

    def _take_name(self, bus: Bus) -> str:
        """Why it is not ours; empty where it is."""
        name = self._served.name
        try:
            (answer,) = bus.call(*BUS, "RequestName", (name, DO_NOT_QUEUE), signature="su", timeout_s=AUTH_S)
        except BusError as error:
            return str(error)
        return "" if answer in OWNED else f"somebody else has the name {name}"

    def _take(self, call: Call) -> None:
        try:
            self._work.put_nowait(lambda: self._answer(call))
        except queue.Full:
            call.refuse("LimitsExceeded", "too many calls at a time")

    def _answer(self, call: Call) -> None:
        """Do what was asked for."""
        try:
            method = find_method(self._served, call.path, call.interface, call.member)
        except LookupError as error:
            call.refuse("UnknownMethod", str(error.args[0]))
            return
        if call.signature != method.takes:
            call.refuse("InvalidArgs", f"takes {method.takes or 'no arguments'}")
            return
        try:
            values = method.call(*call.arguments)
        except BusError as error:
            call.refuse("Failed", str(error))
            return
        except Exception as error:  # noqa: BLE001 - an answer is owed in any case
            call.refuse("Failed", repr(error))
            return
        call.reply(method.gives, values)
        for value in values:
            if hasattr(value, "close"):
                value.close()

    def _do_work(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except BusError:
                continue  # the connection is lost: a signal that nobody hears

    def _once(self, text: str) -> None:
        if text != self._said and not self._closing.is_set():
            self._said = text
            self._say(text)
