"""A program that uses GLib's GMemoryMonitor, as every GTK application may: prints the level of each warning. Run by the
distribution's Python, which has GLib's bindings; DBUS_SYSTEM_BUS_ADDRESS says where the bus is.
"""

import sys

from gi.repository import Gio, GLib  # type: ignore[import-not-found]


def main() -> None:
    """Until standard input ends."""
    monitor = Gio.MemoryMonitor.dup_default()
    monitor.connect("low-memory-warning", lambda _, level: print(int(level), flush=True))
    bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
    loop = GLib.MainLoop()

    def appeared(*_: object) -> None:
        print("hears", flush=True)

    Gio.bus_watch_name_on_connection(bus, "org.freedesktop.LowMemoryMonitor", 0, appeared, None)
    GLib.io_add_watch(sys.stdin, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    loop.run()


main()
