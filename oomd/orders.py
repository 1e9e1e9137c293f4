"""What the outside process asks of the killer: another configuration, units' own settings, how things stand.

Every message is handled at once and never waited for; one that is not understood is left alone, because a newer outside
process may know more than we do.
"""

from __future__ import annotations

from oomd.config.compiled import from_plain, to_plain
from oomd.engine.managed import with_managed, words_of
from oomd.model.config import changes_that_need_a_restart
from oomd.model.managed import read_units
from oomd.model.values import replace
from oomd.status import plain_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.android import Android
    from oomd.companion import Companion
    from oomd.loop import Loop
    from oomd.model.config import Config
    from oomd.model.managed import ManagedUnit
    from oomd.model.report import Plain

MOST_WAITING = 16
"""Questions that wait for the next look at the machine; more are not answered."""


class Orders:
    """Owns the configuration in force."""

    def __init__(self, config: Config, loop: Loop, outside: Companion, ready: Callable[[], object]) -> None:
        """``ready``: called when a reload is over, however it ended."""
        self.config = config
        self.android: Android | None = None
        self.recorded = False
        """Whether a recording wants to know the rules."""
        self._loop = loop
        self._outside = outside
        self._ready = ready
        self._units: tuple[ManagedUnit, ...] = ()
        """Those with settings of their own."""
        self._waiting: list[Plain] = []
        self._handlers = {
            "answer": outside.note_answer,
            "managed": lambda message: self._take_units(read_units(message.get("units"))),
            "config": self._take_config,
            "reload_failed": self._keep_config,
            "status": self._note_question,
        }

    def take(self, message: Plain) -> None:
        """One message from the outside process."""
        handler = self._handlers.get(message.get("command", ""))
        if handler is not None:
            handler(message)

    def on_tick(self) -> None:
        """The machine was looked at just now: answer who asked how things stand."""
        for message in self._waiting:
            status = {**plain_loop(self._loop), "reports_dropped": self._outside.dropped}
            self._outside.tell("answer", number=message.get("number"), ok=True, status=status)
        self._waiting = []

    def tell_rules(self) -> None:
        """What a recording begins with."""
        if self.recorded:
            self._outside.tell("rules", plain=to_plain(replace(self.config, rules=self._loop.rules)))

    def _note_question(self, message: Plain) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(message)

    def _take_config(self, message: Plain) -> None:
        new = from_plain(message["plain"])
        problems = changes_that_need_a_restart(self.config, new)
        if not problems:
            self.config = new
            self._loop.replace_rules(with_managed(new.rules, self._units, new.managed))
            self.tell_rules()
            if self.android is not None:
                self.android.update_properties()
        self._tell_reload("kept the old configuration" if problems else "reloaded", problems, ok=not problems)

    def _keep_config(self, message: Plain) -> None:
        self._tell_reload("kept the old configuration", message.get("problems", []), ok=False)

    def _tell_reload(self, text: str, problems: list[str], *, ok: bool) -> None:
        self._outside.tell("reload", ok=ok, text=text, problems=problems)
        self._ready()

    def _take_units(self, units: tuple[ManagedUnit, ...]) -> None:
        """Units' own settings, all of them: rules beside those of the configuration."""
        if units != self._units:
            self._units = units
            self._loop.replace_rules(with_managed(self.config.rules, units, self.config.managed), carry=True)
            self.tell_rules()
            self._outside.tell("note", text=words_of(units, self.config.managed))
