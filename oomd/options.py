"""What stage one hands to the killer's image."""

from __future__ import annotations

from oomd.kernel.cgroup import CGROUP_ROOT
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.report import Plain


@dataclass(frozen=True, slots=True)
class Options:
    """What stage one hands over besides the configuration."""

    config: Plain
    modules: list[str]
    """Of detectors and policies, those that the configuration needs."""
    outside_argv: list[str]
    link_token: str
    outside_pid: int
    link_fd: int
    proc_dir: str = "/proc"
    child_pid: int = 0
    """``oomd exec``: the command that is guarded; its end ends the daemon, its status is ours."""
    usage_cgroup: str = ""
    """The cgroup whose memory is the budget's usage; empty: the processes in scope."""
    cgroup_root: str = CGROUP_ROOT
    record: bool = False
    """Keep what is seen for the outside process to write."""
    rss_slack_bytes: int = 1 << 20
    """By how much two readings of a process's size may differ without growth (oomd.kernel.features)."""
    lock_fd: int = -1
    """Holds the lock of the runtime directory for as long as we live."""
    runtime_dir: str = ""
    """Where what must be put back is written down; empty where there is none (``oomd exec``)."""
    debts_token: str = ""
    """As whose."""
    paid: tuple[str, ...] = ()
    """What an oomd that was killed had changed, and was put back just now; in words."""
    trace_fd: int = -1
    """Tells of every SIGKILL, where the configuration asks for that."""
    lmkd_fd: int = -1
    """lmkd's control socket, bound; -1 where nobody asked for it."""
    lmkd_path: str = ""
    """Where it was made, to be removed at the end; empty where it was inherited."""
    lmkd_properties: str = ""
    """The text of lmkd's file of properties, as it was at the start."""
    cgroup_namespace: str = ""
    """Where our cgroup namespace stands in the machine's tree; empty for its top."""
    locale: str | None = None
    """LC_ALL as the outside process has it."""
    trace_lost: str = ""
    """Why it does not."""
