"""lmkd's properties: names, defaults, limits, and the column for devices with little memory.

``persist.device_config.lmkd_native.NAME`` wins over ``ro.lmk.NAME``; ``ro.config.*`` are read as they are.
"""

from __future__ import annotations

from oomd.model.values import dataclass, fields, replace

PREFIXES = ("ro.lmk.", "persist.device_config.lmkd_native.")
"""The later wins."""
AS_THEY_ARE = {"ro.config.low_ram": "low_ram", "ro.config.per_app_memcg": "per_app_memcg"}
_TRUE, _FALSE = ("1", "y", "yes", "on", "true"), ("0", "n", "no", "off", "false")
_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Properties:
    """Percent, milliseconds and kB, as the names say; None: derived from others."""

    low_ram: bool = False
    per_app_memcg: bool | None = None
    debug: bool = False
    use_psi: bool = True
    use_new_strategy: bool | None = None
    use_minfree_levels: bool = False
    kill_heaviest_task: bool = False
    kill_timeout_ms: int = 100
    pressure_after_kill_min_score: int = 0
    swap_free_low_percentage: int = 10
    psi_partial_stall_ms: int = 70
    psi_complete_stall_ms: int = 700
    thrashing_limit: int = 100
    thrashing_limit_decay: int = 10
    thrashing_limit_critical: int | None = None
    swap_util_max: int = 100
    filecache_min_kb: int = 0
    stall_limit_critical: int = 100
    direct_reclaim_threshold_ms: int = 0
    swap_compression_ratio: int = 1
    swap_compression_ratio_div: int = 1
    relaxed_available_memory: bool = False
    lowmem_min_oom_score: int = 701
    delay_monitors_until_boot: bool = False
    log_stats: bool = True
    low: int = 1001
    medium: int = 800
    critical: int = 0
    critical_upgrade: bool = False
    upgrade_pressure: int = 100
    downgrade_pressure: int = 100
    psi_window_size_ms: int = 1000

    @property
    def critical_thrashing(self) -> int:
        """From here perceptible apps may die: three times the limit unless it is given."""
        given = self.thrashing_limit_critical
        return 3 * self.thrashing_limit if given is None else given


LOW_RAM = {"psi_partial_stall_ms": 200, "thrashing_limit": 30, "thrashing_limit_decay": 50}
"""Defaults that are others where ro.config.low_ram is true."""
CLAMPS = {
    "swap_free_low_percentage": (0, 100),
    "thrashing_limit": (0, _INT32),
    "thrashing_limit_decay": (0, 100),
    "thrashing_limit_critical": (0, _INT32),
    "swap_util_max": (0, 100),
    "lowmem_min_oom_score": (201, 1001),
}
"""Values beyond are taken for the nearest within."""
LIMITS = {
    "psi_window_size_ms": (500, 10_000),
    "psi_partial_stall_ms": (1, 10_000),
    "psi_complete_stall_ms": (1, 10_000),
    "swap_compression_ratio": (0, _INT32),
    "swap_compression_ratio_div": (1, _INT32),
    "kill_timeout_ms": (0, _INT32),
    "filecache_min_kb": (0, _INT32),
    "direct_reclaim_threshold_ms": (0, _INT32),
}
"""Values beyond are mistakes."""
IDLE: dict[str, tuple[int | bool | None, ...]] = {
    "per_app_memcg": (None, False),
    "use_new_strategy": (None, True),
    "use_minfree_levels": (False,),
    "kill_timeout_ms": (100,),
    "low": (1001,),
    "medium": (800,),
    "critical": (0,),
    "critical_upgrade": (False,),
    "upgrade_pressure": (100,),
    "downgrade_pressure": (100,),
}
"""Taken without effect, because what they belong to is left out; with the values that ask for nothing of it."""
_BOOLEAN = {field.name for field in fields(Properties) if "bool" in str(field.type)}
_NAMES = {field.name for field in fields(Properties)} - set(AS_THEY_ARE.values())


def parse_properties(text: str, override: tuple[str, ...] = ()) -> Properties | list[str]:
    """The properties of lines ``name=value`` (``#`` begins a comment, names that are not lmkd's are passed over), or
    every mistake with its line. ``override``: such lines of our own configuration; they win over all others.
    """
    problems = [f"line {line}: {name}: {message}" for line, name, message in find_mistakes(text)]
    problems += [f"override: {name}: {message}" for _, name, message in find_mistakes("\n".join(override), whole=True)]
    if problems:
        return problems
    given: dict[str, tuple[int, int | bool]] = {}
    for above, lines in ((0, text.split("\n")), (len(PREFIXES), override)):
        for line in lines:
            name, _, value = _parts(line)
            known, rank = _known(name)
            parsed = _parse(known, value) if known and value else ""
            if not isinstance(parsed, str) and (known not in given or given[known][0] <= rank + above):
                given[known] = (rank + above, parsed)
    values = {name: value for name, (_, value) in given.items()}
    for name, (low, high) in CLAMPS.items():
        if name in values:
            values[name] = max(low, min(values[name], high))
    defaults = LOW_RAM if values.get("low_ram") else {}
    return replace(Properties(), **{**defaults, **values})  # type: ignore[arg-type]


def find_mistakes(text: str, *, whole: bool = False) -> list[tuple[int, str, str]]:
    """Line, name and what is wrong, of every line about a property of lmkd. An empty value is none, unless the lines
    are ``whole`` ours.
    """
    mistakes = []
    for number, line in enumerate(text.split("\n"), 1):
        name, equals, value = _parts(line)
        known, _ = _known(name)
        if known and equals and (value or whole):
            parsed = _parse(known, value)
            if isinstance(parsed, str):
                mistakes.append((number, name, parsed))
    return mistakes


def problem_of(line: str) -> str:
    """Why this line ``name=value`` is of no use; empty where it is."""
    name, equals, value = _parts(line)
    known, _ = _known(name)
    if not equals or not name:
        return f"{line!r} is not name=value"
    if not known:
        return f"{name!r} is no property of lmkd"
    parsed = _parse(known, value)
    return parsed if isinstance(parsed, str) else ""


def names_of_all() -> tuple[str, ...]:
    """Every name under which lmkd looks for a property, those of the first prefix only."""
    return (*AS_THEY_ARE, *sorted(PREFIXES[0] + name for name in _NAMES))


def without_effect(properties: Properties) -> tuple[str, ...]:
    """Names of what was set, and asks for something that is not here."""
    return tuple(name for name, harmless in IDLE.items() if getattr(properties, name) not in harmless)


def _parts(line: str) -> tuple[str, str, str]:
    """Name, equals sign (if it is there) and value, without the spaces around them."""
    name, equals, value = line.strip().partition("=")
    return name.strip(), equals, value.strip()


def _known(name: str) -> tuple[str, int]:
    if name in AS_THEY_ARE:
        return AS_THEY_ARE[name], 0
    for rank, prefix in enumerate(PREFIXES):
        if name.startswith(prefix) and name.removeprefix(prefix) in _NAMES:
            return name.removeprefix(prefix), rank
    return "", 0


def _parse(name: str, value: str) -> int | bool | str:
    """The value, or in words what is wrong with it."""
    if name in _BOOLEAN:
        lower = value.lower()
        return True if lower in _TRUE else False if lower in _FALSE else f"{value!r} is no truth value"
    digits = value.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(_INT32)) or int(digits) > _INT32:
        return f"{value!r} is no number"
    low, high = LIMITS.get(name, (-_INT32, _INT32))
    return int(value) if low <= int(value) <= high else f"{int(value)} is not between {low} and {high}"
