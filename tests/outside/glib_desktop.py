"""A desktop of the test: has org.freedesktop.Notifications on the bus at DBUS_SESSION_BUS_ADDRESS, and prints every
notice as a line of JSON. ``hang`` as its argument: never answers. Run by the distribution's Python.
"""

import json
import sys

from gi.repository import Gio, GLib  # type: ignore[import-not-found]

NAME = "org.freedesktop.Notifications"
XML = f"""<node><interface name="{NAME}"><method name="Notify">
<arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/>
<arg type="s" direction="in"/><arg type="as" direction="in"/><arg type="a{{sv}}" direction="in"/>
<arg type="i" direction="in"/><arg type="u" direction="out"/></method></interface></node>"""


def main() -> None:
    """Until standard input ends."""
    bus = Gio.bus_get_sync(Gio.BusType.SESSION)

    def on_call(_bus, _who, _path, _interface, _method, given, call) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
        print(json.dumps(given.unpack()), flush=True)
        if "hang" not in sys.argv:
            call.return_value(GLib.Variant("(u)", (1,)))

    interface = Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0]
    bus.register_object("/org/freedesktop/Notifications", interface, on_call, None, None)
    loop = GLib.MainLoop()
    Gio.bus_own_name_on_connection(bus, NAME, 0, lambda *_: print("shows", flush=True), None)
    GLib.io_add_watch(sys.stdin, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    loop.run()


main()
