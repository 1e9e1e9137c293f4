"""Where a server can listen."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from oomd.config.addresses import Address
from oomd.outside.metrics.listening import open_listener, remove_path
from tests.outside.metrics.serving import free_port

if TYPE_CHECKING:
    from pathlib import Path


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of that family."""
    try:
        free_port(socket.AF_INET6, "::1")
    except OSError:
        return False
    return True


def reaches(family: int, *place: object) -> bool:
    """Whether somebody listens there."""
    with socket.socket(family) as probe:
        return probe.connect_ex(place if len(place) > 1 else place[0]) == 0  # type: ignore[arg-type]


def test_ipv4_and_a_taken_port() -> None:
    """A second one is told that it is taken; once the first is gone it can be had at once."""
    address = Address("127.0.0.1", free_port())
    with open_listener(address):
        assert reaches(socket.AF_INET, address.host, address.port)
        with pytest.raises(OSError, match="in use") as told:
            open_listener(address)
        assert told.value.errno == errno.EADDRINUSE
    open_listener(address).close()


def test_localhost_is_ipv4_first() -> None:
    """As everybody expects who types it."""
    with open_listener(Address("localhost", free_port())) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_ipv6_is_itself_only() -> None:
    """An address of one family takes no connections of the other."""
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    port = free_port(socket.AF_INET6, "::1")
    with open_listener(Address("::1", port)):
        assert reaches(socket.AF_INET6, "::1", port)
        assert not reaches(socket.AF_INET, "127.0.0.1", port)


def test_everywhere() -> None:
    """Both families where there are both."""
    port = free_port()
    with open_listener(Address(port=port)):
        assert reaches(socket.AF_INET, "127.0.0.1", port)
        assert not has_ipv6() or reaches(socket.AF_INET6, "::1", port)


def test_path(tmp_path: Path) -> None:
    """A socket that everybody on this machine may connect to; what a killed process left is replaced, what lives is
    not, and what is no socket is left alone.
    """
    address = Address(path=str(tmp_path / "m.sock"))
    before = os.umask(0o077)
    try:
        listener = open_listener(address)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(address.path).st_mode) == 0o666
    with pytest.raises(OSError, match="in use"):
        open_listener(address)
    listener.close()
    open_listener(address).close()
    remove_path(address)
    assert not os.path.exists(address.path)
    (tmp_path / "m.sock").write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="no socket"):
        open_listener(address)
    assert (tmp_path / "m.sock").read_text(encoding="utf-8") == "precious"


def test_unknown_host() -> None:
    """A name that nobody knows is an OSError like any other."""
    with pytest.raises(socket.gaierror):
        open_listener(Address("no-such-host.invalid", 9779))
