"""An object on the message bus, as data: its place, what can be called there, what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oomd.model.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PEER = "org.freedesktop.DBus.Peer"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"


@dataclass(frozen=True, slots=True)
class Method:
    """One method: signatures, and what it does. ``call`` may raise; what it returns is closed after it was sent, where
    it can be closed.
    """

    takes: str
    gives: str
    call: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Served:
    """An object under a name, with one interface of its own."""

    name: str
    path: str
    interface: str
    methods: Mapping[str, Method] = field(default_factory=dict)
    signals: Mapping[str, str] = field(default_factory=dict)
    """Signatures by name."""


def find_method(served: Served | None, path: str, interface: str | None, member: str) -> Method:
    """The method that is meant; every object has the common ones, and the nodes above ours can be looked at. Raises
    LookupError in words.
    """
    common = {
        (PEER, "Ping"): Method("", "", tuple),
        (INTROSPECTABLE, "Introspect"): Method("", "s", lambda: (describe(served, path),)),
    }
    for (each, name), method in common.items():
        if name == member and interface in (None, each):
            return method
    if served is None or path != served.path:
        raise LookupError(f"there is no object {path}")
    if interface not in (None, served.interface) or member not in served.methods:
        raise LookupError(f"there is no method {interface or served.interface}.{member}")
    return served.methods[member]


def describe(served: Served | None, path: str) -> str:
    """What busctl and gdbus show of this path, as XML."""
    inside = ""
    above = path.rstrip("/") + "/"
    if served is not None and path == served.path:
        methods = "".join(_describe_method(name, method) for name, method in served.methods.items())
        signals = "".join(
            f'<signal name="{name}">{_arguments(signature)}</signal>' for name, signature in served.signals.items()
        )
        inside = f'<interface name="{served.interface}">{methods}{signals}</interface>'
    elif served is not None and served.path.startswith(above):
        inside = f'<node name="{served.path.removeprefix(above).split("/")[0]}"/>'
    return f"<node>{inside}</node>"


def _describe_method(name: str, method: Method) -> str:
    arguments = _arguments(method.takes, ' direction="in"') + _arguments(method.gives, ' direction="out"')
    return f'<method name="{name}">{arguments}</method>'


def _arguments(signature: str, direction: str = "") -> str:
    """Of a signature that has only types of one letter."""
    return "".join(f'<arg type="{letter}"{direction}/>' for letter in signature)
