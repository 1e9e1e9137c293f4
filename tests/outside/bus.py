"""A message bus of a test's own: the real daemon, with the policy of a system's bus and ours."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES = [Path(__file__).parents[2] / "systemd" / name for name in ("oomd-oom1.conf", "oomd-low-memory.conf")]
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "https://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  {more}
</busconfig>
"""
TESTS_POLICY = (
    '<policy user="root"><allow own="org.example.oomd"/><allow send_destination="org.example.oomd"/></policy>'
)


class OwnBus:
    """Started and ended by the test."""

    def __init__(self, folder: Path, *, policy: bool = True) -> None:
        self._socket = folder / "bus"
        self.address = f"unix:path={self._socket}"
        included = "".join(f"<include>{path}</include>" for path in POLICIES) if policy else ""
        self._file = folder / "bus.conf"
        self._file.write_text(CONFIGURATION.format(socket=self._socket, more=included + TESTS_POLICY), encoding="utf-8")
        self._daemon: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Until it takes connections."""
        program = shutil.which("dbus-daemon")
        if program is None:
            pytest.skip("dbus-daemon is not installed; make test installs it")
        self._socket.unlink(missing_ok=True)
        command = [program, f"--config-file={self._file}", "--nofork", "--nopidfile", "--print-address"]
        self._daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._daemon.stdout is not None
        assert self._daemon.stdout.readline().startswith("unix:")

    def stop(self) -> None:
        """End it; its connections are lost."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.communicate()
            self._daemon = None

    def freeze(self, number: int) -> None:
        """Send it a signal."""
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def busctl(self, *words: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
        """What systemd's own client says."""
        command = ["busctl", f"--address={self.address}", "--timeout=120", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, user=user)


@contextmanager
def running_bus(folder: Path, *, policy: bool = True) -> Iterator[OwnBus]:
    """One that runs."""
    bus = OwnBus(folder, policy=policy)
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()
