"""What the outside process asks of the killer: another configuration, units' own settings, how things stand, a pause, a
choice.

Every message is handled at once and never waited for; one that is not understood is left alone, because a newer outside
process may know more than we do.
"""

from __future__ import annotations

from oomd.config.compiled import to_plain
from oomd.model.config import changes_that_need_a_restart
from oomd.model.managed import OFF, plain_managed, read_units
from oomd.model.values import replace
from oomd.pausing import Pausing
from oomd.reload import Reload
from oomd.rounds import Rounds
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
    from oomd.model.ruleset import Rules

MOST_WAITING = 16
"""Questions that wait for the next look at the machine; more are not answered."""


def _nobody_waits(good: bool) -> None:
    """For what is wrong with lmkd's properties: its log says so."""


class Orders:
    """Owns the configuration in force."""

    def __init__(
        self,
        config: Config,
        loop: Loop,
        outside: Companion,
        notify: Callable[[str], object],
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """``notify`` speaks to the service manager; ``changed`` is called when what its status says has changed."""
        self.config = config
        self.android: Android | None = None
        self.recorded = False
        """Whether a recording wants to know the rules."""
        self.pausing = Pausing(loop, outside.tell, changed)
        self.rounds = Rounds(loop, outside.tell)
        self.reload = Reload(outside, notify, self._take_config, lambda: loop.pace.warm)
        self._loop = loop
        self._outside = outside
        self._units: tuple[ManagedUnit, ...] = ()
        """Those with settings of their own."""
        if config.managed.systemd != OFF:
            import oomd.engine.managed  # noqa: F401 - now, and not when a unit speaks up
        self._waiting: list[Plain] = []
        self._handlers: dict[str, Callable[[Plain], object]] = {
            "answer": outside.note_answer,
            "managed": lambda message: self._take_units(read_units(message.get("units"))),
            "reload": lambda message: self.reload.begin(_number_of(message)),
            "status": self._note_question,
            "pause": lambda message: self._answer(message, self.pausing.begin(message)),
            "resume": lambda message: self._answer(message, self.pausing.end(message)),
            "next": self.rounds.ask,
            "kill_now": self.rounds.ask,
        }

    @property
    def is_waiting(self) -> bool:
        """Whether something that was asked is to be answered at the next look."""
        return bool(self._waiting) or self.rounds.is_waiting

    def take(self, message: Plain) -> None:
        """One message from the outside process."""
        command = message.get("command")
        handler = self._handlers.get(command) if isinstance(command, str) else None
        if handler is not None:
            handler(message)

    def on_tick(self, now_us: int) -> None:
        """The machine was looked at just now: answer who asked how things stand, and do what was asked."""
        self.pausing.on_tick(now_us)
        for message in self._waiting:
            status = {**plain_loop(self._loop), "reports_dropped": self._outside.dropped}
            managed = plain_managed(self.config.managed, self._units)
            self._answer(message, {"ok": True, "status": status, "managed": managed})
        self._waiting = []
        self.rounds.on_tick(now_us)

    def tell_rules(self) -> None:
        """What a recording begins with."""
        if self.recorded:
            self._outside.tell("rules", plain=to_plain(replace(self.config, rules=self._loop.rules)))

    def _answer(self, message: Plain, content: Plain) -> None:
        self._outside.tell("answer", number=message.get("number"), **content)

    def _note_question(self, message: Plain) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(message)

    def _take_config(self, new: Config) -> list[str]:
        problems = changes_that_need_a_restart(self.config, new)
        if not problems:
            self.config = new
            self._loop.replace_rules(self._rules())
            self.tell_rules()
            if self.android is not None:
                self.android.update_properties(_nobody_waits)
        return problems

    def _take_units(self, units: tuple[ManagedUnit, ...]) -> None:
        """Units' own settings, all of them: rules beside those of the configuration."""
        if units != self._units:
            self._units = units
            from oomd.engine.managed import words_of

            self._loop.replace_rules(self._rules(), carry=True)
            self.tell_rules()
            self._outside.tell("note", text=words_of(units, self.config.managed))

    def _rules(self) -> Rules:
        """Those of the configuration, and of the units."""
        if self.config.managed.systemd == OFF:
            return self.config.rules
        from oomd.engine.managed import with_managed

        return with_managed(self.config.rules, self._units, self.config.managed)


def _number_of(message: Plain) -> int:
    number = message.get("number")
    return number if isinstance(number, int) else 0
