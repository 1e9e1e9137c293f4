"""The language of the control socket: what is a request, and what is said of what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.outside.lines import MOST_REQUEST_BYTES, BadRequest, Lines, bad, encode, good, parse_request


@pytest.mark.parametrize(
    ("text", "name", "identity", "parameters"),
    [
        ('{"request": "status"}', "status", None, {}),
        ('{"version": 1, "request": "next", "id": 7}', "next", 7, {}),
        ('{"request": "kills", "since": 1.5, "most": 3, "id": "a"}', "kills", "a", {"since": 1.5, "most": 3}),
        ('{"request": "pause", "seconds": 60, "reason": ""}', "pause", None, {"seconds": 60, "reason": ""}),
        (' {"request":"kill_now","dry_run":true}\r', "kill_now", None, {"dry_run": True}),
    ],
)
def test_requests(text: str, name: str, identity: Any, parameters: dict[str, Any]) -> None:
    """As they are documented."""
    request = parse_request(text.encode())
    assert (request.name, request.id, request.parameters) == (name, identity, parameters)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 4000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"status"', "not a JSON object"),
        (b"{}", "request: is none of status, next, kills, pause, resume, reload, kill_now"),
        (b'{"request": ["status"]}', "request: is none of"),
        (b'{"request": "Status"}', "request: is none of"),
        (b'{"request": "status", "version": 2}', "version: this oomd speaks version 1"),
        (b'{"request": "status", "version": true}', "version: this oomd speaks version 1"),
        (b'{"request": "status", "id": []}', "id: is no number, and no text of at most 64 characters"),
        (b'{"request": "status", "id": NaN}', "id: is no number"),
        (b'{"request": "status", "id": 1e999}', "id: is no number"),
        (b'{"request": "kill_now", "dryrun": true}', "'dryrun': kill_now has no such parameter"),
        (b'{"request": "kill_now", "dry_run": 1}', "dry_run: is not true or false"),
        (b'{"request": "kill_now", "dry_run": null}', "dry_run: is not true or false"),
        (b'{"request": "kills", "most": 0}', "most: is not a number above 0"),
        (b'{"request": "kills", "most": true}', "most: is not a number above 0"),
        (b'{"request": "kills", "since": "1h"}', "since: is not a time in seconds since 1970"),
        (b'{"request": "kills", "since": Infinity}', "since: is not a time"),
        (b'{"request": "pause", "seconds": "10m", "reason": ""}', "seconds: is not a number of seconds"),
        (b'{"request": "pause", "seconds": 10}', "reason: is needed, a text"),
        (b'{"request": "pause", "reason": "x"}', "seconds: is needed, a number of seconds"),
    ],
)
def test_what_is_no_request(text: bytes, words: str) -> None:
    """Each mistake has its words."""
    with pytest.raises(BadRequest) as caught:
        parse_request(text)
    assert words in str(caught.value)


def test_a_mistake_keeps_the_id() -> None:
    """Whoever has several under way learns which one it was."""
    with pytest.raises(BadRequest) as caught:
        parse_request(b'{"request": "dance", "id": "x7"}')
    assert caught.value.identity == "x7"


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), max_size=10), st.data())
def test_lines_in_any_pieces(lines: list[bytes], data: st.DataObject) -> None:
    """However a stream is cut, its lines come out whole and in order, also those that were put back."""
    stream, rest = b"".join(line + b"\n" for line in lines), Lines()
    whole, taken = len(stream), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        rest.feed(stream[:size])
        stream = stream[size:]
        while (line := rest.take()) is not None:
            rest.put_back(line)
            assert rest.take() == line
            taken.append(line)
        assert rest.begun == (whole - len(stream) > sum(len(line) + 1 for line in taken))
    assert taken == lines


@pytest.mark.parametrize("data", [b"x" * (MOST_REQUEST_BYTES + 1), b"x" * (MOST_REQUEST_BYTES + 1) + b"\n"])
def test_a_line_has_an_end(data: bytes) -> None:
    """Whether it is there or not."""
    lines = Lines()
    lines.feed(data)
    with pytest.raises(BadRequest, match="more than 4096 bytes"):
        lines.take()


def test_answers() -> None:
    """One line each, whatever is in a name; JSON reads it back."""
    hostile = b"caf\xc3\xa9\xff\n\x1b".decode("utf-8", "surrogateescape")
    data = encode(good("x", {"comm": hostile.encode("utf-8", "backslashreplace").decode()}))
    assert data.count(b"\n") == 1
    assert json.loads(data)["comm"] == "café\\udcff\n\x1b"
    assert json.loads(encode({"comm": hostile}).decode())  # a surrogate too is told somehow
    assert bad(3, "refused", "no", why=1) == {
        "version": 1,
        "id": 3,
        "ok": False,
        "error": "refused",
        "text": "no",
        "why": 1,
    }
