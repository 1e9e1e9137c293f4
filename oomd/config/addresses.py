"""Where metrics are served and written, as a user writes it: ``127.0.0.1:9779``, ``[::1]:9779``, ``:9779``,
``localhost:9779``, ``unix:/run/oomd/metrics.sock``.
"""

from __future__ import annotations

import ipaddress
import os
import re

from oomd.model.units import UnitError
from oomd.model.values import dataclass

OFF_WORD = "off"
UNIX = "unix:"
DEFAULT_PORT = 9779
MOST_ADDRESSES = 4
MOST_PATH_BYTES = 107
"""sun_path of unix(7), without its zero."""
SUFFIX = ".prom"
"""node_exporter's textfile collector reads no other file."""
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen on: a path, or a host (empty: every address of this machine) and a port."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def of(cls, text: str) -> Address:
        """The address that this text means. Raises UnitError."""
        if text.startswith(UNIX):
            return cls(path=_path_of(text))
        host, separator, port = text.rpartition(":")
        if "://" in text or "/" in text:
            raise UnitError(f"{text!r} is no address: ADDRESS:PORT is, as in 127.0.0.1:{DEFAULT_PORT}")
        if not separator:
            raise UnitError(f"{text!r} needs host and port, as in 127.0.0.1:{DEFAULT_PORT}{_meant(text)}")
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise UnitError(f"{text!r}: {port!r} is no port between 1 and 65535")
        return cls(_host_of(text, host), int(port))

    def __str__(self) -> str:
        if self.path:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it; a name other than localhost is not looked up."""
        if self.path or self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False


def parse_listen(text: str) -> tuple[str, ...]:
    """Addresses with commas between them, or ``off``. Raises UnitError."""
    if text == OFF_WORD:
        return ()
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        Address.of(part)
    if len(parts) > MOST_ADDRESSES:
        raise UnitError(f"{len(parts)} addresses; {MOST_ADDRESSES} at most")
    if len(set(parts)) < len(parts):
        raise UnitError("the same address is given twice")
    return tuple(parts)


def parse_textfile(text: str) -> str:
    """The path of a file that node_exporter will read, or ``off``. Raises UnitError."""
    if text == OFF_WORD:
        return ""
    _check_path(text, text)
    if not text.endswith(SUFFIX) or os.path.basename(text) == SUFFIX:
        raise UnitError(f"{text!r} does not end in {SUFFIX}: node_exporter would not read it")
    return text


def _path_of(text: str) -> str:
    path = text.removeprefix(UNIX)
    _check_path(text, path)
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise UnitError(f"{text!r}: the path of a socket has at most {MOST_PATH_BYTES} bytes")
    return path


def _check_path(text: str, path: str) -> None:
    if not path.isprintable():
        raise UnitError("holds characters that cannot be printed")
    if not path.startswith("/") or path.endswith("/"):
        raise UnitError(f"{text!r} should name a file by its whole path, from /")


def _host_of(text: str, host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        inner = host[1:-1]
        if not _is_ip(inner, 6):
            raise UnitError(f"{text!r}: {inner!r} is no IPv6 address")
        return inner
    if ":" in host:
        raise UnitError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:{DEFAULT_PORT}")
    if host and host.replace(".", "").isdigit() and not _is_ip(host, 4):
        raise UnitError(f"{text!r}: {host!r} is no IPv4 address")
    if host and not _HOST_NAME.fullmatch(host):
        raise UnitError(f"{text!r}: {host!r} is no host")
    return host


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _meant(text: str) -> str:
    return f"; :{text} would be every address of this machine" if text.isascii() and text.isdigit() else ""
