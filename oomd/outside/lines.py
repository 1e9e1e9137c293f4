"""The language of the control socket: one JSON object a line, requests one way, answers the other. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oomd.model.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

VERSION = 1
MOST_REQUEST_BYTES = 4096
MOST_ID = 64
"""Characters of a request's id, if it is a text."""

BAD_REQUEST = "bad_request"
NOT_PERMITTED = "not_permitted"
NO_ANSWER = "no_answer"
REFUSED = "refused"
TOO_MANY = "too_many"
"""What ``error`` says."""


class BadRequest(ValueError):  # noqa: N818 - what a client said, no fault of ours
    """The line is no request; the message says why."""

    def __init__(self, text: str, identity: object = None) -> None:
        super().__init__(text)
        self.identity = identity
        """Of the request, as far as it could be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a client."""

    name: str
    id: object = None
    """Whatever the client has put there, to be given back."""
    parameters: Plain = field(default_factory=dict)


def _is_number(value: object) -> bool:
    # JSON's NaN and Infinity, which Python reads, are no numbers here.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


PARAMETERS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "status": {},
    "next": {},
    "kills": {
        "since": (_is_number, "a time in seconds since 1970"),
        "most": (
            lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
            "a number above 0",
        ),
    },
    "pause": {
        "seconds": (_is_number, "a number of seconds"),
        "reason": (lambda value: isinstance(value, str), "a text"),
    },
    "resume": {},
    "reload": {},
    "kill_now": {"dry_run": (lambda value: isinstance(value, bool), "true or false")},
}
"""Each request with its parameters: whether a value will do, and what would."""
NEEDED = {"pause": ("seconds", "reason")}
_ENVELOPE = ("version", "request", "id")


def parse_request(line: bytes) -> Request:
    """Raises BadRequest. An unknown parameter is a mistake: a misspelt ``dry_run`` must not kill."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {str(error)[:100]}") from None
    if not isinstance(content, dict):
        raise BadRequest("not a JSON object")
    identity = content.get("id")
    if not _is_id(identity):
        raise BadRequest(f"id: is no number, and no text of at most {MOST_ID} characters")
    version, name = content.get("version", VERSION), content.get("request")
    if type(version) is not int or version != VERSION:
        raise BadRequest(f"version: this oomd speaks version {VERSION}", identity)
    if not isinstance(name, str) or name not in PARAMETERS:
        raise BadRequest(f"request: is none of {', '.join(PARAMETERS)}", identity)
    parameters = {key: value for key, value in content.items() if key not in _ENVELOPE}
    _check(name, parameters, identity)
    return Request(name, identity, parameters)


def _check(name: str, parameters: Plain, identity: object) -> None:
    for key, value in parameters.items():
        if key not in PARAMETERS[name]:
            raise BadRequest(f"{key[:40]!r}: {name} has no such parameter", identity)
        fits, wanted = PARAMETERS[name][key]
        if not fits(value):
            raise BadRequest(f"{key}: is not {wanted}", identity)
    for key in NEEDED.get(name, ()):
        if key not in parameters:
            raise BadRequest(f"{key}: is needed, {PARAMETERS[name][key][1]}", identity)


def encode(content: Plain) -> bytes:
    """One line. Bytes of names that are no UTF-8 stand as escapes; control characters are escaped by JSON."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def good(request_id: object, content: Plain) -> Plain:
    """An answer that says yes."""
    return {"version": VERSION, "id": request_id, "ok": True, **content}


def bad(request_id: object, error: str, text: str, **content: object) -> Plain:
    """An answer that says no; ``error`` is for programs."""
    return {"version": VERSION, "id": request_id, "ok": False, "error": error, "text": text, **content}


class Lines:
    """Cuts a stream into lines."""

    def __init__(self, most_bytes: int = MOST_REQUEST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._rest = bytearray()

    @property
    def begun(self) -> bool:
        """Whether a line has begun that did not end yet."""
        return bool(self._rest)

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._rest += data

    def put_back(self, line: bytes) -> None:
        """It is taken later."""
        self._rest[:0] = line + b"\n"

    def take(self) -> bytes | None:
        """The next whole line without its end; None where there is none yet. Raises BadRequest for one that is too
        long.
        """
        end = self._rest.find(b"\n")
        if end > self._most_bytes or (end < 0 and len(self._rest) > self._most_bytes):
            raise BadRequest(f"a request of more than {self._most_bytes} bytes")
        if end < 0:
            return None
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_ID
    return value is None or _is_number(value)
