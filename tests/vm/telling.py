"""Telling people, hooks and drop-ins on a real machine: what is laid there. ``guest/tellingchecks.py`` looks;
``test_telling.py`` judges.
"""

from __future__ import annotations

from tests.vm import killers

BEFORE, AFTER = "/usr/local/sbin/before-a-kill", "/usr/local/sbin/after-a-kill"
SOCKETS = "/run/systemd/oomd.prekill.hook"
SETTINGS = f"""
level: {{term: 40%, kill: 5%, grace: 30s}}
stall: off
tell: {{kmsg: true, wall: true, desktop: true, low_memory_monitor: {{low: 60%, medium: 50%, critical: 45%}}}}
hooks:
  before: {{exec: [{BEFORE}], deadline: 60s}}
  after: {{exec: [{AFTER}], deadline: 60s}}
  prekill: 60s
"""
"""Early enough that a hook of an emulated machine ends before memory is critical."""
DROP_INS = ("oomd-kmsg.conf", "oomd-wall.conf", "oomd-desktop.conf", "oomd-hooks.conf")


def _drop_in(name: str) -> str:
    return (killers.TREE / "systemd" / name).read_text()


FILES = {
    "/etc/oomd/oomd.yaml": SETTINGS,
    "/etc/dbus-1/system.d/oomd-low-memory.conf": _drop_in("oomd-low-memory.conf"),
    "/usr/local/lib/systemd/catalog/oomd.catalog": _drop_in("oomd.catalog"),
    BEFORE: "#!/bin/sh\ncat > /var/lib/oomd/before.json\necho about to $OOMD_ACTION $OOMD_VICTIM_COMM\n",
    AFTER: "#!/bin/sh\ncat > /var/lib/oomd/after.json\nid -u\ncat /proc/self/oom_score_adj\n",
    **{f"/etc/systemd/system/oomd.service.d/{name}": _drop_in(name) for name in DROP_INS},
}
