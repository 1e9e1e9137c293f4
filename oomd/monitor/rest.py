"""Everybody behind the leaders: how much the largest of them owns; and where they are few, descriptors of each, so that
whoever grows unseen is found by a reading of each that opens nothing.
"""

from __future__ import annotations

from oomd.monitor.census import Sizes
from oomd.monitor.podium import WORTH_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oomd.monitor.podium import Podium
    from oomd.monitor.rows import Row

MOST_KEPT = 64
"""Where more than so many are behind the leaders none of them is kept: it would be 16 KiB of kernel memory each, and to
look for one among so many takes much longer than what is spared.
"""


class Rest:
    """Those who do not lead, as of the last scan, and the small ones that appeared since."""

    def __init__(self, proc_fd: int, page_bytes: int) -> None:
        self._proc_fd = proc_fd
        self._page_bytes = page_bytes
        self.sizes = Sizes(page_bytes)
        """Of everybody, when everybody was read last."""
        self.most_bytes = self.unexamined_bytes = 0
        """What the largest owns; and of those of whom it is not known that nothing prefers them."""
        self.kept: dict[int, Row] = {}
        """By pid; nobody where they are many."""
        self.passed_bytes = 0
        """What the largest owns of those who were sought through and stay here."""

    def stand_behind(self, podium: Podium) -> None:
        """These lead from now on."""
        self.most_bytes, self.unexamined_bytes = podium.rest_bytes, podium.unexamined_bytes

    def join(self, size_bytes: int) -> None:
        """A small one has appeared."""
        self.most_bytes = max(self.most_bytes, size_bytes)
        self.unexamined_bytes = max(self.unexamined_bytes, size_bytes)

    def keep(self, leading: Mapping[int, Row], admit: Callable[[int], Row | None]) -> None:
        """After a scan: those who do not lead, where they are few. ``admit`` reads the row (None: gone, or not to be
        taken ever).
        """
        former, self.kept = self.kept, {}
        if len(self.sizes) - len(leading) <= MOST_KEPT:
            for pid, _ in self.sizes.largest_first():
                row = None if pid in leading else admit(pid)
                if row is not None:
                    row.keep(self._proc_fd)
                    row.note_statm(self._page_bytes)
                    if row.is_kept:  # else its pid may be another's by now, or there are no descriptors left
                        self.kept[pid] = row
        for pid, row in former.items():
            if self.kept.get(pid) is not row and leading.get(pid) is not row:
                row.drop()

    def read_again(self) -> Iterator[Row]:
        """Those who are kept and still there, with all that changes of them."""
        for row in list(self.kept.values()):
            if row.reread(self._proc_fd):
                yield row
            else:
                self.forget(row.pid)

    def seek(self, sizes: Sizes, asked: set[int], enough: Callable[[int, int], bool], *, swapped: bool) -> bool:
        """Read those who are kept, until ``enough`` says that nobody else matters; whether it never does
        (:meth:`oomd.monitor.census.SizeReader.seek`).
        """
        for pid, row in list(self.kept.items()):
            if pid in asked:
                continue  # born since the last scan began
            if swapped or not row.is_as_read():
                there = row.reread(self._proc_fd) if swapped else row.reread_size(self._proc_fd, self._page_bytes)
                if not there:
                    self.forget(pid)  # and the pid may be another's
                    continue
            size = row.size_bytes
            asked.add(pid)
            sizes.add(pid, size, row.shmem_bytes)
            if size > WORTH_BYTES and enough(pid, size):
                return False
        return True

    def pass_by(self, size_bytes: int) -> None:
        """Somebody who was sought through owns so much, and stays here."""
        self.passed_bytes = max(self.passed_bytes, size_bytes)

    def settle(self, sizes: Sizes) -> None:
        """Everybody was sought through."""
        self.sizes = sizes
        self.most_bytes = self.unexamined_bytes = max(self.passed_bytes, WORTH_BYTES)

    def take(self, pid: int) -> Row | None:
        """This one leads from now on: its row, read again, if it was kept and is still there."""
        row = self.kept.pop(pid, None)
        if row is not None and not row.reread(self._proc_fd):
            row.drop()
            row = None
        return row

    def forget(self, pid: int) -> None:
        """It is condemned, or gone."""
        row = self.kept.pop(pid, None)
        if row is not None:
            row.drop()

    def close(self) -> None:
        """Close every kept descriptor."""
        for pid in list(self.kept):
            self.forget(pid)
