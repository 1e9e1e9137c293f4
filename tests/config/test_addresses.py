"""Addresses and files of metrics, as users write them, right and wrong."""

from __future__ import annotations

import re

import pytest

from oomd.config.addresses import Address, parse_listen, parse_textfile
from oomd.model.units import UnitError


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:9779", Address("127.0.0.1", 9779), True),
        ("127.8.8.8:1", Address("127.8.8.8", 1), True),
        ("0.0.0.0:9779", Address("0.0.0.0", 9779), False),
        ("[::1]:9779", Address("::1", 9779), True),
        ("[::]:65535", Address("::", 65535), False),
        ("[fe80::1%eth0]:9779", Address("fe80::1%eth0", 9779), False),
        (":9779", Address("", 9779), False),
        ("localhost:9779", Address("localhost", 9779), True),
        ("node-1.example.org:80", Address("node-1.example.org", 80), False),
        ("unix:/run/oomd/metrics.sock", Address(path="/run/oomd/metrics.sock"), True),
    ],
)
def test_addresses(text: str, address: Address, local: bool) -> None:
    """Every form that users of exporters know, and whether strangers can reach it."""
    assert (Address.of(text), Address.of(text).is_local) == (address, local)
    assert parse_listen(text) == (text,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9779", "needs host and port, as in 127.0.0.1:9779; :9779 would be every address"),
        ("localhost", "needs host and port"),
        ("localhost:", "'' is no port between 1 and 65535"),
        ("localhost:http", "'http' is no port"),
        ("127.0.0.1:0", "'0' is no port"),
        ("127.0.0.1:65536", "'65536' is no port"),
        ("127.0.0.1:²", "is no port"),
        ("127.0.0.256:80", "'127.0.0.256' is no IPv4 address"),
        ("::1:9779", "stands in brackets, as in [::1]:9779"),
        ("[1.2.3.4]:9779", "is no IPv6 address"),
        ("http://localhost:9779", "is no address"),
        ("localhost:9779/metrics", "is no address"),
        ("a b:1", "'a b' is no host"),
        ("-a:1", "is no host"),
        ("unix:run/x", "by its whole path"),
        ("unix:/run/", "by its whole path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("unix:/a\x1b", "cannot be printed"),
        ("a:1,a:1", "given twice"),
        ("a:1,", "needs host and port"),
        ("a:1,a:2,a:3,a:4,a:5", "5 addresses; 4 at most"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    """Each says what would be right."""
    with pytest.raises(UnitError, match=re.escape(words)):
        parse_listen(text)


def test_several_and_none() -> None:
    """Commas part addresses; ``off`` is none."""
    assert parse_listen("127.0.0.1:9779, [::1]:9779") == ("127.0.0.1:9779", "[::1]:9779")
    assert parse_listen("off") == ()


def test_textfile() -> None:
    """A whole path to what node_exporter reads."""
    assert parse_textfile("/var/lib/node/oomd.prom") == "/var/lib/node/oomd.prom"
    assert parse_textfile("off") == ""
    for text, words in (
        ("oomd.prom", "whole path"),
        ("/a/oomd.txt", "does not end in .prom"),
        ("/a/.prom", "does not end in .prom"),
        ("/a/b/", "whole path"),
        ("/a\n.prom", "cannot be printed"),
    ):
        with pytest.raises(UnitError, match=re.escape(words)):
            parse_textfile(text)
