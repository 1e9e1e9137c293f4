"""The pack of the killer's modules: what is in it, and that it means the same."""

from __future__ import annotations

import marshal
import subprocess
import sys
import types
from pathlib import Path

from oomd.loading import HEAD_BYTES, VALUES, mark_of
from oomd.packing import compiled, pack

ROOT = Path(__file__).parent.parent

SOURCE = b'''
"""A module."""
from __future__ import annotations
TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing
    from nowhere import Unknown
else:
    seen = "running"
number: int = 3
bare: int

class Value:
    """Declared."""
    part: int
    other: str = "x"

    def method(self, each: Unknown, *rest: int, key: str = "k", **more: int) -> Unknown:
        """Adds."""
        total: int = each
        later: int
        assert total != 99
        return total, rest, key, more

def outer(x: int) -> int:
    def inner(y: int) -> int:
        class Local:
            z: int
        return y, sorted(Local.__annotations__)
    return inner(x)
'''


def run(source: bytes) -> dict[str, object]:
    """What it defines."""
    content: dict[str, object] = {"__name__": "module"}
    exec(marshal.loads(compiled(source, "module.py")), content)
    return content


def test_what_people_read_is_gone() -> None:
    """Docstrings, assertions, annotations of functions and variables, imports for type checkers; the fields of classes
    stay, and so does what is done.
    """
    content = run(SOURCE)
    value, outer = content["Value"], content["outer"]
    assert isinstance(value, type)
    assert isinstance(outer, types.FunctionType)
    assert (content.get("__doc__"), value.__doc__, content["number"], content["seen"]) == (None, None, 3, "running")
    assert "bare" not in content
    assert "typing" not in content
    assert (content.get("__annotations__", {}), outer.__annotations__) == ({}, {})
    assert value.__annotations__ == {"part": "int", "other": "str"}
    method = value.__dict__["method"]
    assert (method.__annotations__, method.__doc__) == ({}, None)
    assert method(None, 99, 1, key="l", m=2) == (99, (1,), "l", {"m": 2})
    assert outer(4) == (4, ["z"])


def test_lines_stay_where_they_were() -> None:
    """A traceback names the line of the source."""
    method = run(SOURCE)["Value"].__dict__["method"]
    assert method.__code__.co_firstlineno == SOURCE[: SOURCE.index(b"def method")].count(b"\n") + 1


def listed(code: str) -> set[str]:
    """Which modules of ours such an interpreter has loaded."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {name for name in done.stdout.split() if name.startswith("oomd.")}


def test_everything_that_a_killer_may_load_is_in_it() -> None:
    """The image with every detector and policy, lmkd's part; packages as such, and nothing of the outside process that
    it has not.
    """
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from oomd.packing import modules; print(modules())"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    names: dict[str, bool] = eval(done.stdout)
    assert names.keys() >= listed("import oomd.image, oomd.android") - {"oomd.loading", "oomd.packing"}
    for folder in ("detectors", "policies"):
        stems = {path.stem for path in (ROOT / "oomd" / folder).glob("*.py")} - {"__init__"}
        assert {f"oomd.{folder}.{stem}" for stem in stems} <= names.keys()
    assert {name for name, is_package in names.items() if is_package} >= {"oomd.kill", "oomd.model", "oomd.reap"}
    assert not names["oomd.loop"]
    assert not {"oomd.loading", "oomd.packing", "oomd.outside.main", "oomd.config.loader"} & names.keys()


def test_what_the_pack_tells() -> None:
    """For each module where it lies and by what its source is known; the shapes of values; how long all is."""
    home = str(ROOT / "oomd")
    data = pack(home, {"oomd.kill": True, VALUES: False})
    length = int.from_bytes(data[:HEAD_BYTES], "little")
    _, body_bytes, index, shapes = marshal.loads(data[HEAD_BYTES : HEAD_BYTES + length])
    assert len(data) == HEAD_BYTES + length + body_bytes
    at, size, is_package, mark = index[VALUES]
    assert (is_package, mark) == (False, mark_of(f"{home}/model/values.py"))
    code = marshal.loads(data[HEAD_BYTES + length + at :][:size])
    assert "_build" in code.co_names
    assert index["oomd.kill"][2]
    assert all(isinstance(shape, types.CodeType) for shape in shapes.values())
    assert shapes
