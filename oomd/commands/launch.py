"""Stage one of ``run`` and ``exec``: start the outside process, then become the killer."""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import sys

from oomd.config.compiled import to_plain
from oomd.outside.spawn import spawn_outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.config import Config

LINK_TOKEN = "@LINK@"  # noqa: S105 - stands for a descriptor's number


def become_killer(
    config: Config,
    *,
    config_path: str | None,
    overrides: dict[str, str],
    quiet: bool = False,
    record: str = "",
    keep_fds: tuple[int, ...] = (),
    **options: object,
) -> None:
    """Replace this process by the killer; does not return.

    The killer gets plain values over a memfd: it never parses YAML, and none of our libraries stays in its memory.
    """
    outside = {
        "link_fd": LINK_TOKEN,
        "format": config.log.format,
        "config_path": None if config_path is None else os.path.abspath(config_path),
        "overrides": overrides,
        "quiet": quiet,
        "record": record and os.path.abspath(record),
    }
    argument = json.dumps(outside).replace(f'"{LINK_TOKEN}"', LINK_TOKEN)
    # -P and not -m: a folder that we are started in must not lend us its modules.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.append({package!r}); from oomd.outside.main import main; main()"
    argv = [sys.executable, "-P", "-c", code, argument]
    started = spawn_outside(argv, LINK_TOKEN)
    everything = {
        "config": to_plain(config),
        "outside_argv": argv,
        "link_token": LINK_TOKEN,
        "outside_pid": started.pid,
        "link_fd": started.link_fd,
        "record": bool(record),
        **options,
    }
    memfd = _in_memory(marshal.dumps(everything))
    for fd in (memfd, started.link_fd, *keep_fds):
        os.set_inheritable(fd, True)
    with contextlib.suppress(AttributeError):  # None where they were closed when we were started
        sys.stdout.flush()
        sys.stderr.flush()
    image = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "killer.py")
    os.execv(sys.executable, [sys.executable, "-I", "-S", image, str(memfd)])


def _in_memory(data: bytes) -> int:
    """A descriptor to read this from."""
    memfd = os.memfd_create("oomd-options", 0)
    os.write(memfd, data)
    os.lseek(memfd, 0, os.SEEK_SET)
    return memfd
