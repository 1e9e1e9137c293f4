"""Varlink at the level of bytes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.outside.varlink import Connection, Frames, VarlinkError, connect, encode, parameters_of

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5), st.integers(1, 40))
def test_any_cut_gives_the_same_messages(messages: list[dict[str, object]], size: int) -> None:
    """However the stream is cut into pieces."""
    data = b"".join(map(encode, messages))
    frames = Frames()
    found = [each for start in range(0, len(data), size) for each in frames.feed(data[start : start + size])]
    assert found == messages


@pytest.mark.parametrize("data", [b"\0", b"[]\0", b"1\0", b"{\0", b'{"a":\xff}\0', b"[" * 100_000 + b"\0"])
def test_no_message(data: bytes) -> None:
    """What is no JSON object is an error of the other end, never a crash."""
    with pytest.raises(VarlinkError):
        Frames().feed(data)


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_no_endless_message(end: bytes) -> None:
    """A message that does not end is given up."""
    frames = Frames(1000)
    frames.feed(b"{" * 900)
    with pytest.raises(VarlinkError, match="more than 1000 bytes"):
        frames.feed(b"{" * 200 + end)


@pytest.mark.parametrize("reply", [{"error": "a.b.Denied", "parameters": {}}, {"parameters": []}])
def test_errors(reply: dict[str, object]) -> None:
    """An error is told by its name."""
    with pytest.raises(VarlinkError, match=r"a\.b\.Denied|no object"):
        parameters_of(reply)
    assert parameters_of({}) == {}


def test_call(tmp_path: Path) -> None:
    """A call is one object and a zero byte, without parameters that nobody asked for; replies come as they come."""
    path = str(tmp_path / "service")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        connection = connect(path)
        peer, _ = listener.accept()
        with peer:
            connection.call("a.b.C", more=True)
            assert peer.recv(100) == b'{"method":"a.b.C","more":true}\0'
            connection.call("a.b.D")
            assert peer.recv(100) == b'{"method":"a.b.D"}\0'
            peer.sendall(b'{"parameters":{"a":1},"continues":true}\0{"para')
            assert connection.receive() == [{"parameters": {"a": 1}, "continues": True}]
            peer.sendall(b'meters":{}}\0')
            assert connection.receive() == [{"parameters": {}}]
        assert connection.receive() is None
        connection.close()


def test_nobody_there(tmp_path: Path) -> None:
    """A service that is not there is an OSError, and leaves no descriptor."""
    with pytest.raises(OSError, match="No such file"):
        connect(str(tmp_path / "nothing"))


def test_descriptor() -> None:
    """A connection can be waited for."""
    one, other = socket.socketpair()
    with other:
        connection = Connection(one)
        assert connection.fileno() == one.fileno()
        connection.close()
