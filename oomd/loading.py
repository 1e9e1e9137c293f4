"""How the killer's modules are loaded, and those that stage one shares with it: from one file that has them all, where
make has made it (oomd/packing.py), else one by one, without docstrings and assertions where make has compiled them so.

Looking for 150 modules in their folders takes as long as running them. A module whose source was changed since is not
taken from the pack.
"""

from __future__ import annotations

import _frozen_importlib_external as usual
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec
from _imp import _fix_co_filename  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = tuple[int, int, bool, tuple[int, int]]
    """Where a module's code lies (offset, length), whether it is a package, and the mark of its source."""

VALUES = "oomd.model.values"
"""Compiles functions for classes of values, which the pack has, too."""
HEAD_BYTES = 8
"""The length of the index."""


def pack_path(home: str) -> str:
    """Where the pack of this package lies, for an interpreter like this one."""
    return f"{home}/__pycache__/killer.{sys.implementation.cache_tag}.pack"


def source_of(home: str, name: str, *, is_package: bool) -> str:
    """The file of a module of ours: ``home`` is the folder of the package."""
    stem = home + name.removeprefix("oomd").replace(".", "/")
    return f"{stem}/__init__.py" if is_package else f"{stem}.py"


def mark_of(path: str) -> tuple[int, int]:
    """When it was changed last and how large it is, as compiled files remember it; raises OSError."""
    status = os.stat(path)
    return int(status.st_mtime), status.st_size


def _read_head(fd: int) -> tuple[int, dict[str, Entry], dict[tuple[bool, ...], object]]:
    """Where the code begins; every module; functions of values, compiled, by their fields."""
    length, size = int.from_bytes(os.read(fd, HEAD_BYTES), "little"), os.fstat(fd).st_size
    begin = HEAD_BYTES + length
    magic, body_bytes, index, shapes = marshal.loads(os.read(fd, min(length, size)))  # noqa: S302 - as any compiled file
    if magic != usual.MAGIC_NUMBER or size != begin + body_bytes:
        raise ValueError("it is not whole, or not for this interpreter")
    return begin, index, shapes


class Pack:
    """Finds and loads modules, as the import system asks for it; each is taken out once."""

    def __init__(self, home: str) -> None:
        """Raises OSError where there is no pack; ValueError, EOFError, TypeError where it is none, or for another
        interpreter.
        """
        self._home = home
        self._path = pack_path(home)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._begin, self._index, self._shapes = _read_head(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """None where it is not in the pack as it is in its folder."""
        entry = self._index.get(name)
        if entry is None:
            return None
        is_package, mark = entry[2:]
        source = source_of(self._home, name, is_package=is_package)
        try:
            if mark_of(source) != mark:
                return None
        except OSError:
            return None
        spec = ModuleSpec(name, self, origin=source, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location, spec.cached = True, self._path
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: object) -> None:
        """Run it."""
        content = module.__dict__
        at, length, *_ = self._index.pop(content["__name__"])
        code = marshal.loads(os.pread(self._fd, length, self._begin + at))  # noqa: S302 - as above
        _fix_co_filename(code, content["__file__"])
        exec(code, content)  # noqa: S102 - what importing is
        if content["__name__"] == VALUES:
            self.add_shapes(content)

    def add_shapes(self, values: dict[str, Any]) -> None:
        """To what the module of values has."""
        values["_SHAPES"].update(self._shapes)


def load_leanly(home: str) -> None:
    """Have our modules loaded without docstrings and assertions, where make has compiled them so: 0.4 MiB less. The
    interpreter's own ``-OO`` would ask that of the standard library too, which nobody ships.
    """
    ordinary, ours = usual.cache_from_source, f"{home}/"

    def cached(path: str) -> str:
        lean = ordinary(path, optimization=2) if path.startswith(ours) else ""
        return lean if lean and os.path.exists(lean) else ordinary(path)

    usual.cache_from_source = cached  # type: ignore[assignment]
    load_packed(home)


def load_packed(home: str) -> None:
    """Have our modules loaded from the pack, where there is one."""
    try:
        pack = Pack(home)
    except (OSError, ValueError, EOFError, TypeError):
        return
    sys.meta_path.insert(0, pack)
    if VALUES in sys.modules and pack.find_spec(VALUES) is not None:  # what was compiled by another one may not fit
        pack.add_shapes(sys.modules[VALUES].__dict__)
