"""Requests, right and wrong, to answers."""

from __future__ import annotations

import email
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.outside.metrics.respond import refuse, respond

if TYPE_CHECKING:
    from email.message import Message


def render(accept: str, encoding: str) -> tuple[bytes, str, bool]:
    """Tells what it was asked."""
    return f"{accept}|{encoding}".encode(), "text/plain", encoding == "gzip"


def answered(data: bytes) -> tuple[int, Message, bytes]:
    """Status, headers and body of an answer."""
    line, _, rest = data.partition(b"\r\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 ")
    return int(line.split()[1]), email.message_from_file(io.StringIO(head.decode())), body


def test_metrics() -> None:
    """The body with its length, as the headers ask for it; every connection ends."""
    request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: z\r\nAccept-Encoding: gzip\r\n\r\n"
    data, status = respond(request, render)
    code, headers, body = answered(data)
    assert (status, code, body) == (200, 200, b"z|gzip")
    assert (headers["Content-Length"], headers["Content-Encoding"], headers["Connection"]) == ("6", "gzip", "close")
    assert "Python" not in headers["Server"]


def test_head_has_no_body() -> None:
    """But the length that it would have."""
    code, headers, body = answered(respond(b"HEAD /metrics HTTP/1.0\n\n", render)[0])
    assert (code, headers["Content-Length"], body) == (200, "1", b"")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"GET http://host:1/metrics HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics/x HTTP/1.1\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 405),
        (b"BREW /metrics HTTP/1.1\r\n\r\n", 501),
        (b"GET /metrics HTTP/3.0\r\n\r\n", 505),
        (b"GET /metrics HTTP/x\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01 TLS \r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % each for each in range(200)) + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 200),
    ],
)
def test_status(head: bytes, status: int) -> None:
    """Each mistake has the status that clients know."""
    data, told = respond(head, render)
    assert told == status
    assert b" %d " % status in data.partition(b"\r\n")[0]


def test_allowed_methods_are_told() -> None:
    """With the refusal of any other."""
    assert answered(respond(b"DELETE / HTTP/1.1\r\n\r\n", render)[0])[1]["Allow"] == "GET, HEAD"


def test_refusals_of_what_was_never_parsed() -> None:
    """Too large, or a bug of ours."""
    for status in (431, 500):
        code, headers, body = answered(refuse(status)[0])
        assert (code, headers["Connection"]) == (status, "close")
        assert str(status).encode() in body


@given(st.binary(max_size=400))
def test_anything_is_answered(data: bytes) -> None:
    """Never with an exception, never with a status beyond HTTP's."""
    for head in (data, b"GET " + data, b"GET /metrics HTTP/1.1\r\n" + data + b"\r\n\r\n"):
        said, status = respond(head or b"\n", render)
        assert 200 <= status < 600
        assert said.startswith((b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status))
