"""Every parser of ours, found by its name: whatever it is given, it has an answer or says what is wrong.

Files of the kernel may hold anything (a name is what a process calls itself; another kernel has other lines); what
people and clients write may as well. What each parser makes of what is right stands in its own test.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oomd
from tests.kernel.arbitrary import FIXTURES, mangled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FURTHER = {"file": "/proc/x", "library": b"libm", "field": "x", "page_bytes": 4096, "now": 1_000_000.0}
"""What some of them want besides."""
FILES = sorted(path.name for path in FIXTURES.iterdir())
TEXT = st.text(max_size=60) | st.text("0123456789.,:%+-_/ kKMGTiBsmhd()minmaxoff*\n\x00", max_size=40)
BYTES = st.binary(max_size=300) | mangled(*FILES)


def parsers() -> Iterator[tuple[str, type, Callable[[Any], object]]]:
    """The name, what it reads (bytes or text), and how to call it with that alone."""
    for module in pkgutil.walk_packages(oomd.__path__, "oomd."):
        if module.name.endswith("__main__"):
            continue
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if not name.startswith("parse_") or function.__module__ != module.name:
                continue
            first, *others = inspect.signature(function).parameters.values()
            more = {each.name: FURTHER[each.name] for each in others if each.default is inspect.Parameter.empty}
            kind = {"bytes": bytes, "str": str}[str(first.annotation)]
            yield f"{module.name}.{name}", kind, partial(function, **more)


ALL = list(parsers())


def test_they_are_found() -> None:
    """By their names: of each kind, from several packages."""
    names = {name for name, _, _ in ALL}
    assert {"oomd.kernel.process.parse_stat", "oomd.model.units.parse_size", "oomd.model.scope.parse_scope"} <= names
    assert {kind for _, kind, _ in ALL} == {bytes, str}


@pytest.mark.parametrize(("kind", "parse"), [each[1:] for each in ALL], ids=[each[0] for each in ALL])
@settings(max_examples=40)
@given(data=st.data())
def test_parsers_survive_arbitrary_bytes(kind: type, parse: Callable[[Any], object], data: st.DataObject) -> None:
    """An answer, or a ValueError that says something; nothing else, and it ends."""
    given_text = data.draw(BYTES if kind is bytes else TEXT)
    said = "an answer"
    try:
        parse(given_text)
    except ValueError as error:
        said = str(error)
    assert said
