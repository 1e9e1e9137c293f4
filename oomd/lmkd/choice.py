"""Whom lmkd would kill: the least important first, of equal ones the one that was longest left alone, or the heaviest.

Pure, but for the question how heavy somebody is, which is only asked where it matters.
"""

from __future__ import annotations

from itertools import groupby

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oomd.lmkd.registry import Registered

PERCEPTIBLE = 200
"""Up to this adj the heaviest is taken: so few as possible of what people notice."""


def in_order(
    candidates: tuple[Registered, ...],
    min_adj: int,
    *,
    heaviest: bool,
    read_rss_pages: Callable[[Registered], int | None],
) -> Iterator[Registered]:
    """Who may die, best first, down to ``min_adj`` and never below 0. ``candidates`` are sorted by falling adj, then by
    rising order.

    Of the heaviest-first adjs, those whose memory cannot be read come last of their adj, in their order: where all are
    such, the one that was longest left alone is taken.
    """
    lowest = max(0, min_adj)
    for adj, bucket in groupby(candidates, lambda each: each.adj):
        if adj < lowest:
            return
        members = list(bucket)
        if len(members) > 1 and (heaviest or adj <= PERCEPTIBLE):
            pages = {each.id: read_rss_pages(each) or 0 for each in members}
            members.sort(key=lambda each: -pages[each.id])
        yield from members
