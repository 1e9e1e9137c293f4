"""systemd's prekill hooks: sockets that are told of a kill before it happens."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside.hooks import wait_all
from oomd.outside.prekill import METHOD, MOST_REPLY, MOST_SOCKETS, Call, sockets_in
from tests.descriptors import open_descriptors, opened_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oomd.outside.program import Result

PATIENCE_S = 90.0
CGROUP = "/user.slice/user-1000.slice/app.scope"


@contextmanager
def listening(path: Path, answer: Callable[[bytes], bytes | None]) -> Iterator[list[Any]]:
    """A hook of the test: hears calls until a zero byte, says what ``answer`` returns (None: hang, for as long as the
    test lasts) and hangs up. What it heard.
    """
    heard: list[Any] = []
    ended = threading.Event()

    def serve() -> None:
        while True:
            try:
                stream, _ = server.accept()
            except OSError:
                return
            with stream:
                data = b""
                while not data.endswith(b"\0"):
                    data += stream.recv(4096)
                heard.append(json.loads(data[:-1]))
                said = answer(data)
                if said is None:
                    ended.wait()
                else:
                    stream.sendall(said)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def call(path: Path, patience_s: float = PATIENCE_S) -> Result:
    """What came of calling this socket."""
    one = Call(str(path), CGROUP, patience_s)
    one.start()
    wait_all([one], Event())
    assert one.result is not None
    assert one.fds() == []
    return one.result


def test_hook_is_told_the_cgroup_and_answers(tmp_path: Path) -> None:
    """The call that systemd-oomd makes."""
    with listening(tmp_path / "hook", lambda _: b'{"parameters":{}}\0') as heard:
        result = call(tmp_path / "hook")
    assert (result.status, result.hook) == ("done", f"{tmp_path}/hook")
    assert heard == [{"method": METHOD, "parameters": {"cgroup": CGROUP}}]


@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (b'{"error":"org.varlink.service.MethodNotFound"}\0', "failed", "MethodNotFound"),
        (b"", "failed", "hung up"),
        (b'{"parame', "failed", "hung up"),
        (b"not JSON\0", "failed", "not JSON"),
        (b"[]\0", "failed", "no JSON object"),
        (b'{"parameters":[]}\0', "failed", "no object"),
        (b"{}\0", "done", ""),
        (b"x" * (MOST_REPLY + 1), "failed", "a message of more than"),
    ],
)
def test_whatever_it_says_ends_the_wait(tmp_path: Path, said: bytes, status: str, text: str) -> None:
    """An error, nonsense or the end is as good as an answer."""
    with listening(tmp_path / "hook", lambda _: said):
        result = call(tmp_path / "hook")
    assert result.status == status
    assert text in result.text


def test_hook_that_hangs_is_given_up(tmp_path: Path) -> None:
    """At its deadline, and nothing stays open."""
    before = open_descriptors()
    with listening(tmp_path / "hook", lambda _: None) as heard:
        result = call(tmp_path / "hook", patience_s=0.2)
        assert result.status == "late"
        assert result.took_us >= 200_000
        end = time.monotonic() + PATIENCE_S
        while not heard:  # it may come to it only now
            assert time.monotonic() < end
            os.sched_yield()
        assert len(heard) == 1
    assert opened_since(before) == []


def test_nobody_behind_the_socket(tmp_path: Path) -> None:
    """Its owner has ended, or accepts nobody: that costs no time."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "hook"))
        assert call(tmp_path / "hook").status == "not_started"
        server.listen(0)
        waiting = []
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(str(tmp_path / "hook")):
                break
        begin = time.monotonic()
        assert call(tmp_path / "hook").status == "not_started"
        assert time.monotonic() - begin < PATIENCE_S / 2
        for client in waiting:
            client.close()


def test_sockets_of_the_directory(tmp_path: Path) -> None:
    """Every socket and nothing else, and no more than can be waited for."""
    assert sockets_in(str(tmp_path / "absent")) == []
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "s00")
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(MOST_SOCKETS + 3)]
    for number, each in enumerate(sockets):
        each.bind(str(tmp_path / f"s{number:02}"))
        each.close()
    assert sockets_in(str(tmp_path)) == [f"{tmp_path}/s{number:02}" for number in range(MOST_SOCKETS)]


def test_any_reply(tmp_path: Path) -> None:
    """Bytes of any kind: a result, nothing raised and nothing left open."""
    count = int(os.environ.get("OOMD_FUZZ_LINES", "10000")) // 20
    chance = random.Random(5)
    good = [b'{"parameters":{}}\0', b'{"error":"x.y","parameters":{"a":[1,2]}}\0', b'{"continues":true}\0{}\0']

    def answer(called: bytes) -> bytes:
        data = bytearray(chance.choice(good))
        for _ in range(chance.choice((0, 1, 1, 3))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.randrange(len(data) + 1)]) if chance.random() < 0.2 else bytes(data)

    with listening(tmp_path / "hook", answer):
        call(tmp_path / "hook")
        before = open_descriptors()
        statuses = {call(tmp_path / "hook").status for _ in range(count)}
        assert opened_since(before) == []
    assert statuses == {"done", "failed"}
