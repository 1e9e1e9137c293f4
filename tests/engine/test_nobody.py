"""How long it is believed that nobody of all processes is worth a signal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.engine.nobody import COST, LONGEST_US, LOST_SHARE, is_nobody, nobody_of
from oomd.model.decision import KILL, NOTIFY, Decision, Detection
from oomd.model.ruleset import EngineState, FileBlame
from oomd.model.units import MIB, MILLISECOND_US
from tests.fakes.builders import candidate, status

TOTAL = 1000 * MIB
BLAME = FileBlame(20 * MIB, 600 * MIB, 500 * MIB)
STATE = EngineState(blame=BLAME)
SOME = (candidate(10),)
COST_US = 200 * MILLISECOND_US


def nobody(*, after_us: int = 0, lost: int = 0, critical: bool = False, ruleset: str = "low") -> Decision:
    """A decision by which nobody is signalled, so much later than the first and with so much less memory."""
    now = status(time_us=1000 + after_us, mem_total_bytes=TOTAL, mem_available_bytes=20 * MIB - lost)
    alarms = (Detection(ruleset, fired=True, critical=critical, since_us=0),)
    return Decision(NOTIFY, "", now, ruleset=ruleset, detections=alarms, ranking=SOME)


FIRST = nobody_of(nobody(), STATE, COST_US)


def test_as_long_as_nothing_else_comes_up_it_is_believed() -> None:
    """For so many times what it took to find out."""
    last = COST * COST_US - 1
    assert FIRST.explains(nobody(), STATE)
    assert FIRST.explains(nobody(after_us=last, lost=TOTAL // LOST_SHARE), STATE)
    assert not FIRST.explains(nobody(after_us=last + 1), STATE)


def test_it_is_never_believed_for_long() -> None:
    """However much there is to read; nor at all where it took no time."""
    dear = nobody_of(nobody(), STATE, 100 * COST_US)
    assert dear.explains(nobody(after_us=LONGEST_US - 1), STATE)
    assert not dear.explains(nobody(after_us=LONGEST_US), STATE)
    assert not nobody_of(nobody(), STATE, -5).explains(nobody(), STATE)


@pytest.mark.parametrize(
    "other",
    [
        nobody(lost=TOTAL // LOST_SHARE + 1),
        nobody(critical=True),
        nobody(ruleset="other"),
        replace(nobody(), ranking=()),
        replace(nobody(), action=KILL),
        replace(nobody(), step=0),
    ],
)
def test_anything_else_is_found_out_anew(other: Decision) -> None:
    """Less memory, the critical level, another rule, other candidates, another answer."""
    assert not FIRST.explains(other, STATE)


def test_memory_that_went_elsewhere_since_is_another_matter() -> None:
    """So are files that have grown."""
    assert not FIRST.explains(nobody(), replace(STATE, blame=None))
    assert not FIRST.explains(nobody(), replace(STATE, blame=replace(BLAME, grown_bytes=1)))


def test_a_step_of_a_ladder_is_not_meant() -> None:
    """Its notify tells, and the next step follows."""
    assert is_nobody(nobody())
    assert not is_nobody(replace(nobody(), step=0))
