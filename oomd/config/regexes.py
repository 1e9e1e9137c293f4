"""Which regular expressions a configuration may hold: those that can never take long."""

from __future__ import annotations

import re
import warnings

MOST_REPEATS = 2
"""Unbounded repetitions in a regular expression: each multiplies the time by the length of the text."""
LONGEST_COUNT = 16
"""``x{0,16}`` is bounded, ``x{0,17}`` counts as unbounded."""

_SIGN = re.compile(r"\\\d+|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?|\{\d*,?\d*\}|.", re.DOTALL)
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")


def why_not_safe(pattern: str) -> str:
    """Why this is no regular expression that we take; empty when it is one.

    Taken are those whose time is bounded by the square of the text: no repeated groups, no more than
    :data:`MOST_REPEATS` unbounded repetitions, nothing that looks back or ahead.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except Warning as warning:
        return f"may not be what it looks like: {warning}"
    except re.error as error:
        place = "" if error.pos is None else f" at character {error.pos + 1}"
        return f"is no regular expression: {error.msg}{place}"
    except (RecursionError, OverflowError):
        return "is no regular expression: too large"
    repeats = 0
    for sign, after in _signs(pattern):
        if sign == "(?":
            return "(?…) is not taken: no look-around, no flags, no names; a plain group is (…)"
        if sign.startswith("\\") and sign[1:].isdigit() and sign != "\\0":
            return f"{sign} (a group again) is not taken: it could take for ever"
        if sign == ")" and after in ("*", "+", "{"):
            return f"a repeated group, (…){after}, is not taken: it could take for ever"
        repeats += _is_unbounded(sign)
    if repeats > MOST_REPEATS:
        return f"has {repeats} unbounded repetitions; more than {MOST_REPEATS} could take for ever"
    return ""


def _signs(pattern: str) -> list[tuple[str, str]]:
    """What the pattern is made of outside of ``[…]``, each with the character that follows."""
    return [(found[0], pattern[found.end() : found.end() + 1]) for found in _SIGN.finditer(pattern)]


def _is_unbounded(sign: str) -> bool:
    if sign in ("*", "+"):
        return True
    count = _COUNT.fullmatch(sign)
    if count is None or not (count[1] or count[3]):
        return False
    most = count[3] or ("" if count[2] else count[1])
    return not most or int(most) > LONGEST_COUNT
