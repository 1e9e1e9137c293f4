"""One HTTP request, whole and bounded, to one answer. The standard library parses it, from memory and into memory."""

from __future__ import annotations

import io
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[[str, str], tuple[bytes, str, bool]]
    """``Accept`` and ``Accept-Encoding`` to body, content type, and whether it is compressed."""

PATH = "/metrics"
HTML = "text/html; charset=utf-8"
_HOME = f"""<!DOCTYPE html>
<html lang="en"><head><title>oomd</title></head>
<body><h1>oomd</h1><p>A user-space out-of-memory killer. <a href="{PATH}">Metrics</a></p></body></html>
""".encode()


def respond(head: bytes, render: Render) -> tuple[bytes, int]:
    """The answer to a request whose head is this (a body is not wanted by any), and its status."""
    request = _Request(head, render)
    said = request.wfile.getvalue()
    return (said, request.status) if said else refuse(400)


def refuse(status: int) -> tuple[bytes, int]:
    """The answer to what is no request that could be parsed, or is too large to be."""
    request = _Request(b"", lambda *_: (b"", "", False))
    request.requestline, request.request_version, request.command = "", "HTTP/1.1", "GET"
    request.send_error(status)
    return request.wfile.getvalue(), status


class _Request(BaseHTTPRequestHandler):
    server_version = "oomd"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # what cannot be parsed gets a status all the same
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    wfile: io.BytesIO

    def __init__(self, head: bytes, render: Render) -> None:
        # Not the base's, which would read from a socket.
        self.rfile = io.BytesIO(head)
        self.wfile = io.BytesIO()
        self.client_address = ("", 0)
        self.status = 400
        self._render = render
        if head:
            self.handle_one_request()

    def do_GET(self) -> None:
        try:
            path = urlsplit(self.path).path
        except ValueError:
            self.send_error(400)
            return
        if path == PATH:
            body, content_type, compressed = self._render(
                self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", "")
            )
            self._send(body, content_type, compressed=compressed)
        elif path == "/":
            self._send(_HOME, HTML)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815 - likewise

    def _refuse_method(self) -> None:
        self.send_error(405)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method  # noqa: N815

    def _send(self, body: bytes, content_type: str, *, compressed: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Vary", "Accept, Accept-Encoding")
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """The status line; remembered for the counts."""
        self.status = code
        super().send_response(code, message)
        if code == 405:
            self.send_header("Allow", "GET, HEAD")

    def handle_expect_100(self) -> bool:
        """No body is waited for, so nobody is told to send one."""
        return True

    def log_message(self, *_: object) -> None:
        """A request is no news."""
