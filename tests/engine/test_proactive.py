"""What is taken while nobody is short: portions, limits, and when nothing is taken at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oomd.engine.proactive import LEAST_PROBE_BYTES, REST, amount_bytes, postponed, probe, wants_of_probing
from oomd.model.proactive import Proactive, ProbingState
from oomd.model.snapshot import Cgroup, MemoryStatus, Pressure, PressureLine
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import status

RULE = Proactive("/system.slice/*")
EVERY_S = 6
WEB = "/system.slice/web.service"


def at(seconds: float, **changes: Any) -> MemoryStatus:
    """The machine, with swap that is free."""
    values: dict[str, Any] = {"swap_total_bytes": 4 * GIB, "swap_free_bytes": 4 * GIB, **changes}
    return status(time_us=int(seconds * SECOND_US), **values)


def group(stall_us: int = 0, average: float = 0.0, **changes: Any) -> Cgroup:
    """2 GiB in use: 1 GiB of files, 512 MiB of anonymous memory, the rest cannot be reclaimed."""
    line = PressureLine(average, 0.0, 0.0, stall_us)
    values: dict[str, Any] = {
        "inode": 7,
        "current_bytes": 2 * GIB,
        "active_file_bytes": GIB // 2,
        "inactive_file_bytes": GIB // 2,
        "active_anon_bytes": 0,
        "inactive_anon_bytes": GIB // 2,
        "memory_pressure": Pressure(line, line),
    }
    return Cgroup(WEB, **(values | changes))


def looked(*moments: tuple[MemoryStatus, Cgroup], rule: Proactive = RULE) -> tuple[list[int], ProbingState]:
    """The portions of each look, 0 for none, and the state after all."""
    state = ProbingState()
    portions = []
    for now, cgroup in moments:
        probes, state = probe(rule, now, (cgroup,), state)
        portions.append(sum(each.amount_bytes for each in probes))
    return portions, state


def test_a_small_share_of_what_is_reclaimable() -> None:
    """From the second look on, a hundredth of what is above what must be left; the next look is some seconds later."""
    portions, state = looked((at(0), group()), (at(6), group()))
    share = int((1536 * MIB - 100 * MIB) * 0.01) // 4096 * 4096
    assert portions == [0, share]
    assert state.due_us == 12 * SECOND_US
    ((asked,), _) = probe(RULE, at(12), (group(),), state)
    assert (asked.path, asked.inode, asked.stall_us) == (WEB, 7, 6000)
    assert str(asked) == "14 MiB of /system.slice/web.service"


def test_swap() -> None:
    """Anonymous memory counts as far as swap is free, and not at all where little of it is, or there is none."""
    files = GIB - 100 * MIB

    def reclaimable(**changes: Any) -> int:
        return amount_bytes(replace(RULE, share=1.0, most=Threshold(size_bytes=GIB * 9)), at(0, **changes), group())

    assert reclaimable() == files + GIB // 2
    assert reclaimable(swap_total_bytes=GIB, swap_free_bytes=256 * MIB) == files + 256 * MIB
    assert reclaimable(swap_free_bytes=GIB // 4) == files
    assert reclaimable(swap_total_bytes=0, swap_free_bytes=0) == files


def test_what_must_be_left() -> None:
    """The rule's own floor, and what the cgroup was promised (memory.min, memory.low)."""
    low = group(low_bytes=2 * GIB)
    assert amount_bytes(RULE, at(0), low) == 0
    assert amount_bytes(replace(RULE, least=Threshold(size_bytes=4 * GIB)), at(0), group()) == 0
    assert amount_bytes(replace(RULE, least=Threshold(share=0.9)), at(0), group()) == 0
    assert amount_bytes(replace(RULE, share=0.5, most=Threshold(size_bytes=8 * MIB)), at(0), group()) == 8 * MIB


def test_pressure_backs_off_at_once() -> None:
    """Stall since the last look, or the kernel's averages, of memory or of input and output: nothing is taken, and for
    some turns nothing is tried.
    """
    for pressed in (
        group(stall_us=7000),
        group(average=0.001),
        group(io_pressure=Pressure(PressureLine(0.0, 0.002, 0.0, 0), None)),
    ):
        turns = [(at(0), group()), (at(6), pressed)]
        over = replace(pressed, memory_pressure=group(7000).memory_pressure, io_pressure=None)
        turns += [(at(6 + 6 * turn), over) for turn in range(1, 12)]
        portions, _ = looked(*turns)
        assert portions[1] == 0
        quiet = [portion == 0 for portion in portions[2:]]
        assert quiet[: REST - 1] == [True] * (REST - 1)
        assert not quiet[REST]


def test_a_little_stall_is_nothing() -> None:
    """Less than the target."""
    portions, _ = looked((at(0), group()), (at(6), group(stall_us=5000)))
    assert portions[1] > 0


def test_a_cgroup_made_anew_is_looked_at_first() -> None:
    """Its counters are another's."""
    portions, _ = looked((at(0), group()), (at(6), group(inode=8)), (at(12), group(inode=8)))
    assert portions[:2] == [0, 0]
    assert portions[2] > 0


def test_what_cannot_be_judged() -> None:
    """Without pressure, without usage, or of another pattern (ancestors come with it): left alone."""
    for odd in (group(memory_pressure=None), group(current_bytes=None), replace(group(), path="/system.slice")):
        portions, state = looked((at(0), odd), (at(6), odd))
        assert (portions, state.watched) == ([0, 0], ())


def test_after_an_alarm() -> None:
    """Everything is looked at anew, some time after it."""
    _, state = looked((at(0), group()), (at(6), group()))
    state = postponed(RULE, state, 60 * SECOND_US)
    assert (state.due_us, state.watched) == (66 * SECOND_US, ())


def test_what_is_read() -> None:
    """Only of the cgroups that are named."""
    wants = wants_of_probing(replace(RULE, of="/a/*,/b"))
    assert wants.cgroups == ("/a/*", "/b")
    assert {"memory.pressure", "memory.stat"} <= wants.files


SIZES = st.integers(0, 8 * GIB)


@settings(deadline=None)
@given(
    current=SIZES,
    file=SIZES,
    anon=SIZES,
    low=SIZES,
    swap_free=SIZES,
    share=st.floats(0.0001, 0.5),
    least=SIZES,
    most=st.integers(0, GIB),
    stall_us=st.integers(0, 20_000),
)
def test_bounds(
    current: int, file: int, anon: int, low: int, swap_free: int, share: float, least: int, most: int, stall_us: int
) -> None:
    """Never more than the limit or its share of what is reclaimable, never below what must be left, nothing under
    pressure; whole pages.
    """
    rule = replace(RULE, share=share, least=Threshold(size_bytes=least), most=Threshold(size_bytes=most))
    cgroup = group(
        stall_us,
        current_bytes=current,
        active_file_bytes=file,
        inactive_file_bytes=0,
        active_anon_bytes=anon,
        inactive_anon_bytes=0,
        low_bytes=low,
    )
    now = at(6, swap_total_bytes=8 * GIB, swap_free_bytes=swap_free)
    (_, portion), _ = looked(
        (at(0), replace(cgroup, memory_pressure=group().memory_pressure)), (now, cgroup), rule=rule
    )
    assert portion == 0 or LEAST_PROBE_BYTES <= portion <= most
    assert portion <= share * min(current, file + min(anon, swap_free))
    assert portion == 0 or current - portion >= max(low, least)
    assert portion % 4096 == 0
    if stall_us > 6000:
        assert portion == 0
