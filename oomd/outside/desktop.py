"""A notice on the desktop of the victim's owner (org.freedesktop.Notifications), without a program being started.

A user's message bus takes nobody but that user, not even root, and lies in a folder that is closed to others. So a
thread of its own acts as that user while it connects: it has no right then but that user's.
"""

from __future__ import annotations

import errno
import html
import os
import threading
import time
from typing import TYPE_CHECKING

from oomd.kernel.features import read_capabilities
from oomd.kernel.syscalls import seteuid_of_thread
from oomd.outside.dbus import BUS, Bus, BusError
from oomd.outside.notices import Allowance, notice_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain
    from oomd.outside.notices import Notice

FOLDER = "/run/user"
NAME = "org.freedesktop.Notifications"
PATH = "/org/freedesktop/Notifications"
CALL_S = 2.0
PATIENCE_S = 8.0
"""For everything: the bus may take its time to let us in, too."""
MOST_AT_ONCE = 8
"""Desktops that hang at a time; others are not told while so many do."""
NORMAL, CRITICAL = 1, 2
"""Urgency: a critical notice stays until somebody has seen it."""
FOR_EVER = -1
"""The desktop decides, and keeps it in its history."""


class Desktop:
    """Tells whoever is concerned, on every desktop that person has."""

    def __init__(self, say: Callable[[str], object], folder: str = FOLDER) -> None:
        """``say`` tells people what does not work, each thing once in a row. Raises OSError where nobody but ourselves
        could ever be told.
        """
        self._say = say
        self._said = ""
        self._folder = folder
        self._allowance = Allowance(time.monotonic)
        self._under_way = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._own_uid = os.geteuid()
        if self._own_uid == 0 and not _may_change_user():
            raise OSError(errno.EPERM, "CAP_SETUID is missing (systemd/oomd-desktop.conf has it)")
        os.listdir(folder)

    def __call__(self, event: Plain) -> None:
        """Tell what this event has to say to anybody, if it has; a desktop is waited for as long as is decent."""
        notice = notice_of(event)
        if notice is None or not self._allowance.take(notice.uid):
            return
        if self._own_uid not in (0, notice.uid) or not self._under_way.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._tell, args=(notice,), name=f"desktop-{notice.uid}", daemon=True)
        thread.start()
        thread.join(PATIENCE_S)

    def _tell(self, notice: Notice) -> None:
        why = ""
        try:
            if notice.uid != self._own_uid:
                seteuid_of_thread(notice.uid)
            if os.path.exists(f"{self._folder}/{notice.uid}/bus"):  # else nobody of that name is logged in
                show(notice, f"unix:path={self._folder}/{notice.uid}/bus")
        except OSError as error:
            why = error.strerror or str(error)
        except BusError as error:
            why = str(error)
        finally:
            self._under_way.release()
        if why and why != self._said:
            self._say(f"tell.desktop: uid {notice.uid} was not told: {why}")
        self._said = why


def show(notice: Notice, address: str) -> None:
    """On this bus. Raises BusError. Where no desktop listens none is started: memory is short."""
    with Bus(address) as bus:
        (there,) = bus.call(*BUS, "NameHasOwner", (NAME,), signature="s", timeout_s=CALL_S)
        if not there:
            return
        urgency = ("y", CRITICAL if notice.urgent else NORMAL)
        hints = {"urgency": urgency, "category": ("s", "device.error")}
        text = html.escape(notice.text, quote=False)  # desktops read a few marks of HTML
        actions: list[str] = []
        body = ("oomd", 0, "dialog-warning", notice.title, text, actions, hints, FOR_EVER)
        bus.call(NAME, PATH, NAME, "Notify", body, signature="susssasa{sv}i", timeout_s=CALL_S)


def _may_change_user() -> bool:
    with open("/proc/self/status", "rb") as file:
        return "CAP_SETUID" in read_capabilities(file.read())
