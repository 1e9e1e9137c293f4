"""A reload: the outside process reads the file, because it knows YAML; SIGHUP and ``oomd reload`` take the same way.

One at a time: whoever asks while one is under way gets another after it, because the file may have changed since it was
read. However it ends, the service manager is told that we are ready, and who asked gets an answer.
"""

from __future__ import annotations

from oomd.config.compiled import are_loaded, from_plain
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.companion import Answer, Companion
    from oomd.model.config import Config

PATIENCE_US = 30_000_000
"""How long the outside process may read."""
MOST_WAITING = 16
KEPT = "kept the old configuration"


class Reload:
    """Has the file read and its content taken."""

    def __init__(
        self,
        outside: Companion,
        notify: Callable[[str], object],
        take: Callable[[Config], list[str]],
        is_short: Callable[[], bool],
    ) -> None:
        """``notify`` speaks to the service manager; ``take`` puts a configuration in force, or says what speaks against
        that; ``is_short``: whether memory is short, so that no code can be loaded.
        """
        self._is_short = is_short
        self._outside = outside
        self._notify = notify
        self._take = take
        self._under_way = False
        self._again = False
        self._asked: list[int] = []
        """Who waits for the one under way."""
        self._waiting: list[int] = []
        """Who waits for the one after it."""

    def begin(self, number: int = 0) -> None:
        """Have it done; ``number`` of a question that waits for the result, 0 for none."""
        if number and len(self._waiting) < MOST_WAITING:
            self._waiting.append(number)
        if self._under_way:
            self._again = True
            return
        self._notify("RELOADING=1")
        self._under_way = True
        self._asked, self._waiting = self._waiting, []
        now_us = clock_us()
        self._outside.ask("reload", self._done, now_us=now_us, deadline_us=now_us + PATIENCE_US)

    def _done(self, answer: Answer) -> None:
        told = answer.content.get("problems")
        problems = [str(each) for each in told] if isinstance(told, (list, tuple)) else []
        if answer.ok:
            problems += self._put_in_force(answer.content.get("plain"), answer.content.get("modules"))
        elif not problems:
            problems = [answer.text or "the outside process does not say why"]
        ok = not problems
        text = "reloaded" if ok else KEPT
        self._outside.tell("reload", ok=ok, text=text, problems=problems)
        for number in self._asked:
            self._outside.tell("answer", number=number, ok=ok, text=text, problems=problems)
        self._under_way = False
        self._notify("READY=1")
        if self._again:
            self._again = False
            self.begin()

    def _put_in_force(self, plain: object, modules: object) -> list[str]:
        names = [str(each) for each in modules] if isinstance(modules, (list, tuple)) else []
        if not are_loaded(names) and self._is_short():
            return ["it uses rules whose code is not loaded, and memory is short: reload again when it is not"]
        try:
            config = from_plain(plain, names)
        except (ImportError, ValueError, TypeError, AttributeError, RecursionError) as error:
            return [f"not a configuration: {error}"]
        return self._take(config)
