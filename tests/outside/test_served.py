"""What an object says of itself, and which method is meant."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from oomd.outside.served import INTROSPECTABLE, PEER, Method, Served, describe, find_method

TWICE = Method("s", "su", lambda word: (word * 2, 2))
SERVED = Served("org.example.a", "/org/example/a", "org.example.A", {"Twice": TWICE}, {"Happened": "si"})


def test_description() -> None:
    """Methods with what they take and give, signals; the nodes above lead to the object, others are empty."""
    root = ET.fromstring(describe(SERVED, "/org/example/a"))
    (interface,) = root
    assert interface.attrib == {"name": "org.example.A"}
    told = {child.attrib["name"]: [(each.get("type"), each.get("direction")) for each in child] for child in interface}
    assert told == {"Twice": [("s", "in"), ("s", "out"), ("u", "out")], "Happened": [("s", None), ("i", None)]}
    for path, child in (("/", "org"), ("/org", "example"), ("/org/example", "a")):
        assert [each.attrib for each in ET.fromstring(describe(SERVED, path))] == [{"name": child}]
    for path in ("/other", "/org/ex", "/org/example/a/b"):
        assert describe(SERVED, path) == "<node></node>"
    assert describe(None, "/") == "<node></node>"


def test_methods() -> None:
    """With the interface or without; the common ones at every path."""
    assert find_method(SERVED, SERVED.path, SERVED.interface, "Twice") is TWICE
    assert find_method(SERVED, SERVED.path, None, "Twice") is TWICE
    assert find_method(SERVED, "/", PEER, "Ping").call() == ()
    assert find_method(None, "/", INTROSPECTABLE, "Introspect").call() == ("<node></node>",)


@pytest.mark.parametrize(
    ("path", "interface", "member", "words"),
    [
        ("/", "org.example.A", "Twice", "there is no object /"),
        (SERVED.path, "org.example.B", "Twice", "there is no method org.example.B.Twice"),
        (SERVED.path, None, "Thrice", "there is no method org.example.A.Thrice"),
        (SERVED.path, "org.example.A", "Ping", "there is no method org.example.A.Ping"),
    ],
)
def test_nothing_else(path: str, interface: str | None, member: str, words: str) -> None:
    """Said in words."""
    with pytest.raises(LookupError, match=words):
        find_method(SERVED, path, interface, member)
