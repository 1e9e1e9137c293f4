"""Every key of the configuration: its type, its default as text, its meaning in one line. The loader, ``check`` and the
example derive from it.
"""

from __future__ import annotations

from oomd.model.managed import SOURCES
from oomd.model.ruleset import LEVELS
from oomd.model.threshold import Threshold
from oomd.model.units import format_exact_duration, format_exact_size, format_share, format_threshold
from oomd.model.values import MISSING, dataclass, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import Field
    from typing import Any

DEFAULT_PROTECT = (
    "init",
    "systemd",
    "systemd-*",
    "(sd-pam)",
    "sshd*",
    "dbus-daemon",
    "dbus-broker*",
    "rsyslogd",
    "containerd*",
    "dockerd",
    "crio",
    "conmon*",
    "kubelet",
)
"""Names that nobody wants dead: init, the journal, sshd, dbus, container runtimes, kubelet."""

DEFAULT_WORD = "default"
"""In a list of names: the embedded default list, which counts for root's processes and system services only."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``kind`` names the conversion of its text (loader.py), or ``mapping`` with further ``keys``."""

    name: str
    kind: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    keys: tuple[Key, ...] = ()


LEVEL_KEYS = (
    Key(
        "term",
        "threshold",
        "min(5%, 1GiB)",
        "SIGTERM below this much available memory (share of MemAvailable + AnonPages)",
    ),
    Key("kill", "threshold", "min(2.5%, 512MiB)", "SIGKILL below this; half of term when left out"),
    Key("swap", "threshold", "10%", "and free swap below this share of it; without swap this always holds"),
    Key("grace", "duration", "5s", "between SIGTERM and SIGKILL; less when memory keeps falling"),
)
STALL_KEYS = (
    Key("term", "share", "40%", "SIGTERM when everything stalls for memory (PSI full) this much of the time"),
    Key("kill", "share", "70%", "SIGKILL at this share"),
    Key("over", "duration", "2s", "the window that is looked at"),
    Key("available", "threshold", "min(12%, 2GiB)", "only while available memory is below this"),
    Key("limited", "no_cgroups", "none", "cgroups whose stall does not count while they are at their own memory.max"),
    Key("grace", "duration", "5s", "between SIGTERM and SIGKILL; less when memory keeps falling"),
)
LMKD_KEYS = (
    Key(
        "socket", "text", "/dev/socket/lmkd", "where to listen; init's or systemd's socket is taken where there is one"
    ),
    Key("protocol", "choice", "A15", "the Android release whose packets are spoken", choices=("A11", "A15", "A17")),
    Key(
        "compatible",
        "bool",
        "false",
        "as the original: a fourth client replaces the others, and anybody who may connect registers anybody",
    ),
    Key("only", "bool", "false", "what is registered there is all that is ever killed: no other rule is in force"),
    Key("properties", "text", "", "a file of properties (ro.lmk.…), name=value per line; read anew by UPDATE_PROPS"),
    Key("override", "texts", "[]", "properties that take the place of those of the file: [name=value, …]"),
    Key("log", "text", "", "a file for log lines in logcat's shape; left out: with the other reports"),
)
LOW_MEMORY_KEYS = (
    Key(
        "low", "threshold", "min(20%, 4GiB)", "level 50 below this much available memory: drop what is easily had again"
    ),
    Key("medium", "threshold", "min(14%, 2.5GiB)", "level 100 below this: drop more"),
    Key("critical", "threshold", "min(8%, 1.5GiB)", "level 255 below this: drop all that can be dropped"),
    Key("pressure", "share", "20%", "one level more while everything stalls this much of the time (PSI full)"),
)
TELL_KEYS = (
    Key("kmsg", "bool", "false", "a line in the kernel log for each decision, escalation and outcome"),
    Key("wall", "bool", "false", "the terminals of the victim's owner, unless they refuse messages (mesg n)"),
    Key("desktop", "bool", "false", "the desktop of the victim's owner (org.freedesktop.Notifications)"),
    Key(
        "low_memory_monitor",
        "low_memory",
        "off",
        "ask programs to trim before anybody dies (org.freedesktop.LowMemoryMonitor); {} for the defaults",
        keys=LOW_MEMORY_KEYS,
    ),
)
HOOK_KEYS = (
    Key("exec", "texts", "", "the program and its arguments, [/path/to/program, …]; no shell"),
    Key("deadline", "duration", "", "how long it may run; then it is killed"),
)
HOOKS_KEYS = (
    Key(
        "before",
        "hook",
        "",
        "a program that is run before the first signal, which waits for it (200ms)",
        keys=HOOK_KEYS,
    ),
    Key("after", "hook", "", "a program that is run once it is known what came of it (10s)", keys=HOOK_KEYS),
    Key(
        "prekill",
        "duration",
        "0s",
        "how long systemd's prekill hooks (/run/systemd/oomd.prekill.hook/) are waited for; 0s: they are not called",
    ),
)
KEYS = (
    Key(
        "scope",
        "scope",
        "machine",
        "whom oomd may touch: machine, tree:PID, cgroup:/PATH, uid:UID; several with commas: all must hold",
    ),
    Key(
        "budget",
        "size",
        "none",
        "memory for the scope instead of the machine's: anonymous, shared memory and swap; no file cache",
    ),
    Key("dry_run", "bool", "false", "decide and report, never signal anybody"),
    Key("level", "level", "", "the first default ruleset: too little is left; `off` drops it", keys=LEVEL_KEYS),
    Key("stall", "stall", "", "the second: the machine stands still for memory; `off` drops it", keys=STALL_KEYS),
    Key("rulesets", "rulesets", "", "the long form, which replaces level and stall (see README)"),
    Key("protect", "names", "[default]", "never killed (names, or {cmdline: …}; `default`: the embedded list)"),
    Key("prefer", "names", "[]", "killed first, if that gives back a tenth of what the largest other would"),
    Key("avoid", "names", "[]", "killed only when nobody else is left"),
    Key(
        "omit",
        "choice",
        "never",
        "cgroups marked user.oomd_omit: never killed, or as the last resort of all",
        choices=("never", "last_resort"),
    ),
    Key(
        "reap",
        "mapping",
        "",
        "how the memory of a killed process is taken back",
        keys=(
            Key(
                "backend",
                "choice",
                "auto",
                "process_mrelease where the kernel has it, else expedite, which lifts what hinders the victim",
                choices=("auto", "mrelease", "expedite", "none"),
            ),
            Key(
                "every_exit",
                "choice",
                "off",
                "hasten the end of what anybody SIGKILLs, from 64 MiB on: off, pressure (only in need), always",
                choices=("off", "pressure", "always"),
            ),
            Key("workers", "workers", "4", "threads that kill and reap, 1 to 16: so many victims side by side"),
            Key("expedite_mrelease", "bool", "true", "whether expedite may use process_mrelease beneath"),
        ),
    ),
    Key(
        "log",
        "mapping",
        "",
        "where reports go",
        keys=(
            Key(
                "format",
                "choice",
                "text",
                "text (standard error), json (lines on standard output), journal",
                choices=("text", "json", "journal"),
            ),
        ),
    ),
    Key(
        "managed",
        "mapping",
        "",
        "honour units' own settings (ManagedOOMSwap= and its kin), as systemd-oomd does",
        keys=(
            Key(
                "systemd",
                "choice",
                "off",
                "takeover (told by PID 1, which needs the unit name systemd-oomd.service), poll, auto, off",
                choices=SOURCES,
            ),
            Key("swap_limit", "share", "90%", "of memory and of swap in use, for ManagedOOMSwap=kill"),
            Key("pressure_limit", "share", "60%", "where a unit with ManagedOOMMemoryPressure=kill names none"),
            Key("pressure_duration", "duration", "30s", "for how long, where a unit names no duration"),
        ),
    ),
    Key(
        "metrics",
        "mapping",
        "",
        "figures for Prometheus",
        keys=(
            Key(
                "listen",
                "listen",
                "off",
                "serve them over HTTP: ADDRESS:PORT, [IPV6]:PORT, :PORT (everywhere), unix:/PATH; several with commas",
            ),
            Key(
                "textfile", "textfile", "off", "write them to this file (….prom) for node_exporter's textfile collector"
            ),
        ),
    ),
    Key(
        "proactive",
        "proactive",
        "",
        "take what is cold from cgroups in small portions, as long as nothing stalls; off unless this key is given",
    ),
    Key("tell", "tell", "", "who is told besides the log", keys=TELL_KEYS),
    Key(
        "hooks",
        "hooks",
        "",
        "programs that are run before and after a kill; only where root alone can write",
        keys=HOOKS_KEYS,
    ),
    Key("lmkd", "lmkd", "", "take the place of Android's lmkd; `{}`: with the defaults", keys=LMKD_KEYS),
    Key(
        "control",
        "mapping",
        "",
        "the socket that `oomd status` and its kin talk to, control.sock in the runtime directory",
        keys=(
            Key("enabled", "bool", "true", "whether there is one"),
            Key("group", "group", "", "a group whose members may read (root and oomd's own user may change things)"),
        ),
    ),
    Key(
        "runtime_dir",
        "text",
        "",
        "where lock and control socket live, one oomd per directory; default /run/oomd, or the user's own",
    ),
)
RULESET_KEYS = (
    Key("name", "text", "", "how reports call it"),
    Key("when", "groups", "", "{any: [{all: [DETECTOR, …]}, …]} or {all: [DETECTOR, …]}"),
    Key("critical", "groups", "", "the same for SIGKILL at once"),
    Key("for", "duration", "0s", "how long the alarm must hold before anybody is asked to go"),
    Key("choose", "choose", "", "{from: [CGROUP, …], level: process, policy: culprit, recursive: false, most: 64}"),
    Key("then", "ladder", "", "[{term: {grace: 5s}}, {kill: {}}]; gentle steps may come first (see `oomd actions`)"),
    Key("pause", "duration", "0s", "how long it rests after it acted (the critical level never rests)"),
    Key("hooks", "hooks", "", "of this ruleset, in the place of those for all", keys=HOOKS_KEYS),
)


CHOOSE_KEYS = (
    Key("from", "cgroups", "", "patterns of cgroups among which to choose; left out: everybody in scope"),
    Key(
        "level",
        "choice",
        "process",
        "what dies as one: a process, its process group, its session, a cgroup; process_in: one process of the cgroup",
        choices=LEVELS,
    ),
    Key("policy", "policy", "culprit", "the order of victims, as a name or {name: {option: value}}"),
    Key("recursive", "bool", "false", "go down to the worst child of the worst cgroup, or to memory.oom.group=1"),
    Key(
        "leaves",
        "bool",
        "false",
        "at level cgroup: all cgroups in or below `from` that have none below (or memory.oom.group=1), side by side",
    ),
    Key("most", "count", "64", "how many processes one action may take; larger candidates are passed over"),
)


def option_keys(declared: type[Any]) -> tuple[Key, ...]:
    """The options of a detector or policy, from its dataclass fields: ``over_us`` is the duration ``over``. The type
    that a field is declared with names the conversion (aliases of oomd/model/units.py), its ``meanings`` the meaning.
    """
    keys = []
    for field in fields(declared):
        kind = _KINDS.get(str(field.type).removesuffix(" | None"), "text")
        name = field.name
        if name.endswith("_us"):
            name, kind = name.removesuffix("_us"), "duration"
        choices = getattr(declared, "choices", {}).get(name, ())
        meaning = getattr(declared, "meanings", {}).get(name, "")
        kind = "choice" if choices else kind
        keys.append(Key(name, kind, _default_text(field, kind), meaning, choices=choices))
    return tuple(keys)


def option_text(value: Any, kind: str) -> str:
    """An option's value as the text that would load as the same."""
    if isinstance(value, Threshold):
        return format_threshold(value)
    formats: dict[str, Any] = {
        "duration": format_exact_duration,
        "share": format_share,
        "percent": format_share,
        "size": format_exact_size,
        "rate": lambda rate: f"{format_exact_size(rate)}/s",
        "bool": lambda value: "true" if value else "false",
        "ratio": lambda ratio: f"{ratio:.10f}".rstrip("0").rstrip("."),
    }
    return str(formats.get(kind, str)(value))


def is_needed(declared: type[Any], name: str) -> bool:
    """Whether this option has no default."""
    field = next(field for field in fields(declared) if field.name.removesuffix("_us") == name)
    return field.default is MISSING and field.default_factory is MISSING


def _default_text(field: Field[Any], kind: str) -> str:
    return "" if field.default is MISSING or field.default in (None, "") else option_text(field.default, kind)


_KINDS = {
    "Threshold": "threshold",
    "Share": "share",
    "Percent": "percent",
    "Ratio": "ratio",
    "Count": "count",
    "Rate": "rate",
    "Subject": "subject",
    "CgroupGlob": "cgroups",
    "NoCgroups": "no_cgroups",
    "float": "share",
    "int": "size",
    "bool": "bool",
    "str": "text",
}
