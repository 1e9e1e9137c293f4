"""A bus of our own on a socket: it lets anybody in and answers calls as the test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from jeepney import Message, MessageType, new_error, new_method_return
from jeepney.low_level import HeaderFields, Parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Answers = Callable[[str, tuple[Any, ...]], tuple[str, tuple[Any, ...]] | str | None]
    """For a member and its arguments: a signature and the body; the name of an error; None for silence."""


class FakeBus:
    """Serves one connection after the other, each in the thread that serves them all."""

    def __init__(self, folder: Path, answers: Answers, *, lets_in: bool = True) -> None:
        self.path = folder / "bus"
        self.address = f"unix:path={self.path}"
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.signals: list[tuple[str, tuple[Any, ...]]] = []
        self._answers = answers
        self._lets_in = lets_in
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(90)

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream, contextlib.suppress(OSError):
                self._talk(stream)

    def _talk(self, stream: socket.socket) -> None:
        begun = b""
        while not begun.endswith(b"\r\n"):
            begun += stream.recv(4096)
        stream.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n" if self._lets_in else b"REJECTED\r\n")
        rest = b""
        while b"BEGIN\r\n" not in rest:
            data = stream.recv(4096)
            if not data:
                return
            rest += data
        parser = Parser()
        for message in parser.feed(rest.partition(b"BEGIN\r\n")[2]):
            self._take(stream, message)
        while data := stream.recv(4096):
            for message in parser.feed(data):
                self._take(stream, message)

    def _take(self, stream: socket.socket, message: Message) -> None:
        member = message.header.fields[HeaderFields.member]
        if message.header.message_type == MessageType.signal:
            self.signals.append((member, message.body))
            return
        answer: Any = ("s", (":1.7",))
        if member != "Hello":
            self.calls.append((member, message.body))
            answer = self._answers(member, message.body)
        if answer is None:
            return
        if isinstance(answer, str):
            reply = new_error(message, answer, "s", (f"told {answer}",))
        else:
            reply = new_method_return(message, *answer)
        stream.sendall(reply.serialise(serial=len(self.calls) + 1))
