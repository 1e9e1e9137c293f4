"""Our dataclasses against the standard library's: the same words, the same answers."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass as standard_dataclass
from typing import Any

import pytest

from oomd.model.snapshot import Process, ProcessId
from oomd.model.values import dataclass, field, fields, is_dataclass, replace
from tests.fakes.builders import process


@dataclass(frozen=True, slots=True)
class Ours:
    """All kinds of fields."""

    number: int
    text: str = "x"
    numbers: list[int] = field(default_factory=list)
    kind = "not a field"


@standard_dataclass(frozen=True, slots=True)
class Theirs:
    """The same."""

    number: int
    text: str = "x"
    numbers: list[int] = dataclasses.field(default_factory=list)
    kind = "not a field"


@dataclass(frozen=True, slots=True, order=True)
class Ordered:
    """To be sorted."""

    first: int
    second: int = 0


@dataclass(slots=True)
class Open:
    """To be changed."""

    number: int = 1


@dataclass(frozen=True, slots=True)
class Empty:
    """Without fields."""


@pytest.mark.parametrize(
    ("words", "named"), [((1,), {}), ((1, "y"), {"numbers": [2]}), ((), {"number": 3, "text": "z"})]
)
def test_values_are_those_of_the_standard_library(words: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Fields, representation, and a default of its own for each value."""
    ours, theirs = Ours(*words, **named), Theirs(*words, **named)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert (ours.kind, Ours.kind) == ("not a field",) * 2
    assert Ours(1).numbers is not Ours(1).numbers


@pytest.mark.parametrize(
    ("words", "named"), [((), {}), ((1, 2, 3, 4), {}), ((1,), {"other": 1}), ((1,), {"number": 1})]
)
def test_wrong_arguments_are_an_error(words: tuple[Any, ...], named: dict[str, Any]) -> None:
    """As with any function."""
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*words, **named)


def test_frozen_values_are_frozen_equal_and_hashable() -> None:
    """They are keys of dictionaries, and nobody changes or widens them."""
    assert (ProcessId(1, 2), hash(ProcessId(1, 2))) == (ProcessId(1, 2), hash(ProcessId(1, 2)))
    assert ProcessId(1, 2) not in (ProcessId(1, 3), (1, 2))
    assert len({Empty(), Empty()}) == 1
    with pytest.raises(AttributeError):
        ProcessId(1, 2).pid = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del ProcessId(1, 2).pid
    with pytest.raises(AttributeError):
        ProcessId(1, 2).other = 3  # type: ignore[attr-defined]


def test_open_values_can_be_changed_and_are_no_keys() -> None:
    """What is not frozen has no hash."""
    value = Open()
    value.number = 7
    assert value == Open(7)
    with pytest.raises(TypeError):
        hash(value)


def test_order_is_that_of_the_fields() -> None:
    """One after the other."""
    values = [Ordered(2, 1), Ordered(1, 5), Ordered(1)]
    assert sorted(values) == [Ordered(1), Ordered(1, 5), Ordered(2, 1)]
    assert Ordered(1) <= Ordered(1) < Ordered(2) >= Ordered(2) > Ordered(1, 9)


def test_replace_and_fields() -> None:
    """Ours, and the standard library's on ours."""
    original = process(7, 500, comm="leaker")
    for changed in (replace(original, comm="other"), dataclasses.replace(original, comm="other")):
        assert changed == Process(
            **{each.name: getattr(original, each.name) for each in fields(Process)} | {"comm": "other"}
        )
        assert original.comm == "leaker"
    with pytest.raises(ValueError, match="not in tuple"):
        replace(original, nonsense=1)  # type: ignore[call-arg]
    assert [(each.name, each.type) for each in fields(Ours)] == [
        (each.name, each.type) for each in dataclasses.fields(Theirs)
    ]
    assert is_dataclass(Ours(1))
    assert not is_dataclass(3)


def test_values_can_be_copied_and_stored() -> None:
    """By copy and pickle; their initialiser can be asked for its parameters; patterns match by place."""
    value = process(7, 500)
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == copy.copy(value) == value
    assert list(inspect.signature(Ours).parameters) == ["number", "text", "numbers"]
    match Ordered(3, 4):
        case Ordered(first, second):
            assert (first, second) == (3, 4)


def test_what_has_no_default_comes_first() -> None:
    """As with the standard library's: else the arguments of a call would go to the wrong fields."""
    for kind in (dataclass, standard_dataclass):
        with pytest.raises(TypeError):

            @kind(frozen=True, slots=True)
            class Late:
                number: int = 1
                text: str


def test_each_has_what_it_was_given() -> None:
    """Constructors of classes with as many fields share their code, and nothing else."""
    made = [Ours(1), Ours(1, "y", [3]), Ordered(4, 5), Open(6), ProcessId(7, 8)]
    assert [repr(each) for each in made] == [
        "Ours(number=1, text='x', numbers=[])",
        "Ours(number=1, text='y', numbers=[3])",
        "Ordered(first=4, second=5)",
        "Open(number=6)",
        "ProcessId(pid=7, start_ticks=8)",
    ]
    assert Ordered.__init__.__code__.co_code == ProcessId.__init__.__code__.co_code
    assert Ordered.__init__.__qualname__ == "Ordered.__init__"
