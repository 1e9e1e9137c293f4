"""A limit on an amount of memory: bytes, a share of a base, or the smaller or larger of both."""

from __future__ import annotations

from oomd.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """``min(5%, 1GiB)``, ``5%`` or ``1GiB``.

    ``share`` is a fraction (0.05 for 5 %) of a base that only the moment of use knows, ``size_bytes`` an absolute
    amount. With
    both, ``combine`` says which of the two results counts: ``"min"`` or ``"max"``.
    """

    share: float | None = None
    size_bytes: int | None = None
    combine: str = "min"

    def resolve_bytes(self, base_bytes: int) -> int:
        """The limit in bytes for this base."""
        if self.share is None or self.size_bytes is None:
            return int(base_bytes * self.share) if self.share is not None else self.size_bytes or 0
        by_share = int(base_bytes * self.share)
        if self.combine == "max":
            return max(self.size_bytes, by_share)
        return min(self.size_bytes, by_share)

    @property
    def is_nothing(self) -> bool:
        """Whether it is zero on every machine."""
        return self.resolve_bytes(1 << 46) == 0

    def halved(self) -> Threshold:
        """The limit at half the way to zero."""
        return Threshold(
            share=None if self.share is None else self.share / 2,
            size_bytes=None if self.size_bytes is None else self.size_bytes // 2,
            combine=self.combine,
        )

    def may_exceed(self, other: Threshold) -> bool:
        """Whether it is above the other one on a machine of some size, from 1 MiB to 64 TiB."""
        return any(self.resolve_bytes(1 << power) > other.resolve_bytes(1 << power) for power in range(20, 47))
