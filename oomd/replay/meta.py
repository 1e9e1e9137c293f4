"""``meta.yaml`` of a trace's step: extended attributes and owners that a copied tree could not keep.

    xattrs: {/user.slice/a: {user.oomd_avoid: "1"}}
    owners: {/user.slice/a: 1000, proc/4711: 33}
    lmkd: {event: critical}

A path is that of a cgroup, with or without ``cgroup`` before it, or ``proc/PID``. ``event``: the pressure event that
woke lmkd at this step, ``medium`` or ``critical``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import yaml

from oomd.config.nodes import Walker
from oomd.config.problems import did_you_mean
from oomd.kernel.cgroup_files import MARKS
from oomd.model.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oomd.config.problems import Problem

MOST_BYTES = 16 << 20
EVENTS = ("medium", "critical")
WRITTEN_BY_KILLERS = ("user.oomd_ooms", "user.oomd_kill", "user.oomd_kill_uuid")
"""What systemd-oomd and Meta's oomd leave on a cgroup; a copied tree may have them."""
_LARGEST_UID = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Meta:
    """What a step's ``meta.yaml`` says."""

    xattrs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By the path of the cgroup (``/user.slice``), then by name."""
    owners: Mapping[str, int] = field(default_factory=dict)
    """User ids by the path of the cgroup."""
    uids: Mapping[int, int] = field(default_factory=dict)
    """User ids by pid."""
    event: str = ""
    """The pressure event that woke lmkd; empty where it polled."""


def read_meta(path: str, *, proc_dir: str = "", cgroup_dir: str = "") -> Meta:
    """The file's content. Raises ValueError with every mistake and its place, one a line: what it says of nobody in
    these trees (empty: not looked at) is one.
    """
    problems: list[Problem] = []
    walker = Walker(path, problems)
    root = _compose(path)
    nodes = {} if root is None else walker.mapping(root, "", ("xattrs", "owners", "lmkd"))
    xattrs: dict[str, dict[str, str]] = {}
    for place, node in _entries(walker, nodes.get("xattrs"), "xattrs"):
        path = _cgroup_path(place)
        _present(walker, node, f"xattrs.{place}", cgroup_dir, path)
        xattrs[path] = _marks(walker, node, f"xattrs.{place}")
    owners, uids = {}, {}
    for place, node in _entries(walker, nodes.get("owners"), "owners"):
        uid = _uid(walker, node, f"owners.{place}")
        folder, _, pid = place.strip("/").partition("/")
        if folder == "proc" and pid.isascii() and pid.isdigit():
            _present(walker, node, f"owners.{place}", proc_dir, pid)
            uids[int(pid)] = uid
        else:
            _present(walker, node, f"owners.{place}", cgroup_dir, _cgroup_path(place))
            owners[_cgroup_path(place)] = uid
    event = _event(walker, nodes.get("lmkd"))
    if problems:
        raise ValueError("\n".join(str(problem) for problem in sorted(problems)))
    return Meta(xattrs, owners, uids, event)


def _compose(path: str) -> yaml.Node | None:
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8")
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise ValueError(f"{place}: is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    return root


def _entries(walker: Walker, node: yaml.Node | None, path: str) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a mapping with free keys."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        yield from walker.mapping(node, path, names).items()
    elif node is not None:
        walker.mapping(node, path, ())


def _marks(walker: Walker, node: yaml.Node, path: str) -> dict[str, str]:
    """The attributes of one cgroup; of those of oomd only ones that there are."""
    marks = {}
    for name, value in _entries(walker, node, path):
        marks[name] = _text(walker, value, f"{path}.{name}")
        known = (*MARKS, *WRITTEN_BY_KILLERS)
        if name.partition(".")[2].startswith("oomd_") and name not in known:
            walker.problem(value, f"{path}.{name}", f"is no mark that anybody reads{did_you_mean(name, known)}")
    return marks


def _present(walker: Walker, node: yaml.Node, path: str, tree: str, name: str) -> None:
    if tree and not os.path.isdir(f"{tree}/{name.strip('/')}"):
        walker.problem(node, path, "is not in the trees of this step")


def _event(walker: Walker, node: yaml.Node | None) -> str:
    inner = {} if node is None else walker.mapping(node, "lmkd", ("event",))
    if "event" not in inner:
        return ""
    text = _text(walker, inner["event"], "lmkd.event")
    if text not in EVENTS:
        walker.problem(inner["event"], "lmkd.event", f"{text!r} is not one of {', '.join(EVENTS)}")
    return text


def _text(walker: Walker, node: yaml.Node, path: str) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    walker.problem(node, path, "should be a single value")
    return ""


def _uid(walker: Walker, node: yaml.Node, path: str) -> int:
    text = _text(walker, node, path)
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _LARGEST_UID:
        return int(text)
    walker.problem(node, path, f"{text!r} is no user id")
    return 0


def _cgroup_path(text: str) -> str:
    parts = [part for part in text.split("/") if part]
    # `/cgroup/…` cannot be told from a cgroup of that name; nobody has one at the top of the hierarchy.
    return "/" + "/".join(parts[1:] if parts and parts[0] == "cgroup" else parts)
