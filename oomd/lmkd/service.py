"""What each command of the protocol does: between the codec, the registry and the daemon that it asks for the rest."""

from __future__ import annotations

from oomd.lmkd import wire
from oomd.lmkd.registry import ERROR
from oomd.model.units import SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from oomd.lmkd.registry import Registry, Sender
    from oomd.lmkd.server import Client
    from oomd.lmkd.wire import Level

    class Daemon(Protocol):
        """Who decides and kills."""

        def update_properties(self, done: Callable[[bool], None]) -> None:
            """Read them anew; ``done`` is told False when they are of no use, and the old ones stay."""

        def start_monitoring(self) -> None:
            """Begin to look at memory, if that was put off until now."""


TARGET_PAUSE_US = SECOND_US
"""A minfree table may come once in this time."""


class Service:
    """Answers packets."""

    def __init__(
        self,
        registry: Registry,
        level: Level,
        daemon: Daemon,
        say: Callable[[str, str], None],
        clock_us: Callable[[], int],
    ) -> None:
        self.registry = registry
        self.minfree: tuple[tuple[int, int], ...] = ()
        """The table of TARGET: pages and adj. Taken and told, never used: it belongs to a strategy that we leave out.
        """
        self._level = level
        self._daemon = daemon
        self._say = say
        self._clock_us = clock_us
        self._targeted_us: int | None = None
        self._booted = False

    def meet(self, sender: Sender) -> None:
        """Somebody speaks over a connection for the first time."""
        self.registry.meet(sender)

    def answer(self, data: bytes, sender: Sender, client: Client) -> bytes:
        """Carry a packet out; the reply, empty for none, or for one that comes later."""
        command = wire.decode(data, self._level)
        if isinstance(command, wire.Register):
            for record in command.records:
                self.registry.register(sender, record)
        elif isinstance(command, wire.Malformed):
            self._say(ERROR, command.text)
        elif isinstance(command, wire.Count):
            return wire.encode_reply(wire.GETKILLCNT, self.registry.count_kills(command.lowest, command.highest))
        elif isinstance(command, wire.Remove):
            self.registry.remove(sender, command.pid)
        elif isinstance(command, wire.Subscribe):
            self._subscribe(command.what, client)
        elif isinstance(command, wire.Target):
            self._target(command)
        else:
            return self._plain(command.opcode, sender, client)
        return b""

    def disown(self, owner: int) -> None:
        """This client is gone."""
        self.registry.disown(owner)

    def _plain(self, opcode: int, sender: Sender, client: Client) -> bytes:
        if opcode == wire.PROCPURGE:
            self.registry.purge(sender)
        elif opcode == wire.UPDATE_PROPS:
            reply = client.reply_later()
            self._daemon.update_properties(lambda good: reply(wire.encode_reply(opcode, 0 if good else -1)))
        elif opcode == wire.START_MONITORING:
            self._daemon.start_monitoring()
        else:
            before, self._booted = self._booted, True
            self._daemon.start_monitoring()
            return wire.encode_reply(opcode, 1 if before else 0)
        return b""

    def _subscribe(self, what: int, client: Client) -> None:
        if what in self._level.subscriptions:
            client.subscriptions.add(what)
        else:
            self._say(ERROR, f"Invalid SUBSCRIBE event type {what}")

    def _target(self, command: wire.Target) -> None:
        if not command.pairs:
            return
        now = self._clock_us()
        if self._targeted_us is not None and now - self._targeted_us < TARGET_PAUSE_US:
            self._say(ERROR, "Ignoring frequent updated to lmkd limits")
            return
        self._targeted_us = now
        self.minfree = command.pairs
