"""What the owner of a victim is told, and how often."""

from __future__ import annotations

from oomd.outside.notices import MOST_AT_ONCE, PER_S, Allowance, notice_of
from oomd.outside.reporter import note
from tests.outside.events import DECISION, OUTCOME

CHOSEN = DECISION["decision"]


def words(**changes: object) -> str:
    """What is told of a decision with these changes."""
    notice = notice_of({**DECISION, "decision": {**CHOSEN, **changes}})
    return "" if notice is None else notice.text


def test_each_action_has_its_words() -> None:
    """Who goes or has gone, why, and what that gives back."""
    notice = notice_of(DECISION)
    assert notice is not None
    assert (notice.uid, notice.title, notice.urgent) == (1000, "Out of memory", True)
    assert notice.text == "leaker (7) was ended; it gives back 500 MiB."
    assert words(action="term").startswith("leaker (7) was asked to quit")


def test_warning_before_a_kill() -> None:
    """Only where a ruleset has a step for that; the same word without a step means that nobody may be killed."""
    notice = notice_of({**DECISION, "decision": {**CHOSEN, "action": "notify", "step": 0, "step_us": 30_000_000}})
    assert notice is not None
    assert not notice.urgent
    assert notice.text == "leaker (7) has to go in 30s, unless something else is closed; it gives back 500 MiB."
    assert words(action="notify") == ""


def test_several_that_go_as_one() -> None:
    """What they are called together, and the largest of them."""
    target = {**CHOSEN["target"], "kind": "cgroup", "name": "/user.slice/" + "x" * 1000}
    text = words(target=target, processes=4)
    assert text.startswith("cgroup /user.slice/xxx")
    assert "with leaker (7) and 3 more was ended" in text
    assert len(text) < 400


def test_nobody_is_told_what_concerns_nobody() -> None:
    """Other events, a dry run, and decisions without a victim."""
    assert notice_of(OUTCOME) is None
    assert notice_of(note("x")) is None
    assert notice_of({**DECISION, "dry_run": True}) is None
    assert words(target=None) == ""
    assert words(action="none") == ""


def test_names_cannot_give_orders_to_a_terminal() -> None:
    """Control signs, and those that turn the direction of writing."""
    text = words(target={**CHOSEN["target"], "comm": "a\x1b[2J\u202e\nb"})
    assert text.isprintable()


def test_one_person_is_not_flooded() -> None:
    """Some at once, then slowly; others are told all the same."""
    now = [100.0]
    allowance = Allowance(lambda: now[0])
    assert [allowance.take(1) for _ in range(MOST_AT_ONCE + 2)] == [True] * MOST_AT_ONCE + [False] * 2
    assert allowance.take(2)
    now[0] += PER_S
    assert [allowance.take(1), allowance.take(1)] == [True, False]
    now[0] += 1000 * PER_S
    assert [allowance.take(1) for _ in range(MOST_AT_ONCE + 1)] == [True] * MOST_AT_ONCE + [False]


def test_people_without_number_are_not_remembered() -> None:
    """A machine with many users costs no memory for ever."""
    allowance = Allowance(lambda: 0.0)
    assert all(allowance.take(uid) for uid in range(5000))
    assert len(allowance._known) <= 1024
