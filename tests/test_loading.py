"""The killer's modules are loaded from the pack, else without docstrings and assertions where they were compiled so."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oomd.loading import Pack, pack_path, source_of
from tests.descriptors import open_descriptors

ROOT = Path(__file__).parent.parent
CODE = """
import sys
sys.path[:0] = ["{home}"]
from oomd.loading import load_leanly
load_leanly("{home}/oomd")
import oomd.loop, oomd.model.values
assert oomd.loop.__doc__ is not None
print(oomd.loop.__cached__.rsplit("/")[-1], oomd.loop.__file__, oomd.loop.Loop.run.__code__.co_filename)
print(sum(name.startswith("oomd.") and module.__cached__[-5:] != ".pack" for name, module in sys.modules.items()))
{more}
"""
LEAN = f"loop.{sys.implementation.cache_tag}.opt-2.pyc"
ORDINARY = f"loop.{sys.implementation.cache_tag}.pyc"
PACKED = f"killer.{sys.implementation.cache_tag}.pack"


def loaded(home: Path, more: str = "", *options: str) -> subprocess.CompletedProcess[str]:
    """An interpreter that loads the loop as the killer does, from there; which file it came from, unless its docstring
    was not there, and how many modules of ours came from their own files.
    """
    argv = [sys.executable, "-I", "-S", *options, "-c", CODE.format(home=home, more=more)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of us, not compiled."""
    shutil.copytree(ROOT / "oomd", tmp_path / "oomd", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of us, packed as make does it."""
    assert "-P -X no_debug_ranges -m oomd.packing" in (ROOT / "Makefile").read_text("utf-8")
    folder = tmp_path_factory.mktemp("packed")
    shutil.copytree(ROOT / "oomd", folder / "oomd", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"import sys; sys.path[:0] = [{str(folder)!r}]; from oomd.packing import main; main()"
    subprocess.run([sys.executable, "-I", "-X", "no_debug_ranges", "-c", code], check=True, timeout=300)
    return folder


def compile_leanly(home: Path) -> None:
    """Every module by itself, as make does."""
    words = ["-X", "no_debug_ranges", "-m", "compileall", "-q", "-f", "-o", "2", str(home / "oomd")]
    subprocess.run([sys.executable, *words], check=True, timeout=300)
    assert " ".join(words[:-1]) in (ROOT / "Makefile").read_text("utf-8")


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> Path:
    """A copy of our own of that; the times of files are as they were."""
    shutil.copytree(packed_once / "oomd", tmp_path / "oomd")
    return tmp_path


def pack_of(home: Path) -> Path:
    """The file."""
    return Path(pack_path(str(home / "oomd")))


def change(source: Path) -> None:
    """One line more."""
    source.write_text(source.read_text("utf-8") + "\nNEW = 1\n", "utf-8")


def test_what_was_compiled_leanly_is_what_is_loaded(home: Path) -> None:
    """No docstrings; assertions of others stay."""
    assert loaded(home).returncode == 0
    compile_leanly(home)
    done = loaded(home)
    assert "AssertionError" in done.stderr  # that of CODE, whose docstring is gone
    assert done.returncode == 1


def test_what_is_older_than_its_source_is_not(home: Path) -> None:
    """What was changed since is compiled anew, whatever lies there."""
    compile_leanly(home)
    change(home / "oomd/loop.py")
    done = loaded(home)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pack_is_what_is_loaded(packed: Path) -> None:
    """All modules but those that find it, under their own names and files; tracebacks name their lines."""
    more = f"oomd.loop.Loop.run(None)\n{'#' * 8}"
    done = loaded(packed, more, "-O")
    first, second = done.stdout.splitlines()
    loop = str(packed / "oomd/loop.py")
    assert first.split() == [PACKED, loop, loop]
    assert second == "1"  # oomd.loading
    line = next(n for n, text in enumerate(Path(loop).read_text("utf-8").splitlines(), 1) if "self._over.acq" in text)
    assert f'File "{loop}", line {line}, in run' in done.stderr


def test_what_was_changed_since_is_not_taken_from_the_pack(packed: Path) -> None:
    """That module alone, and what it has now is there."""
    change(packed / "oomd/loop.py")
    done = loaded(packed, "print(oomd.loop.NEW)")
    first, second, third = done.stdout.splitlines()
    assert (first.split()[0], second, third) == (ORDINARY, "2", "1")


@pytest.mark.parametrize("changed", [False, True])
def test_compiled_shapes_are_of_the_module_that_is_there(packed: Path, changed: bool) -> None:
    """They are not given to one that was changed since, and may want them otherwise."""
    if changed:
        change(packed / "oomd/model/values.py")
    code = f"""
import sys
sys.path[:0] = ["{packed}"]
import oomd.model.values as values
from oomd.loading import load_packed
before = len(values._SHAPES)
load_packed("{packed}/oomd")
print(len(values._SHAPES) > before)
"""
    argv = [sys.executable, "-I", "-S", "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout == f"{not changed}\n"


def test_a_module_that_is_gone_is_missing(packed: Path) -> None:
    """Whatever the pack says."""
    (packed / "oomd/foresight.py").unlink()
    assert "No module named 'oomd.foresight'" in loaded(packed).stderr


def test_values_behave_as_those_from_files(packed: Path) -> None:
    """Their functions come from the pack, too: nothing is compiled."""
    more = """
import builtins, marshal
from oomd.model.values import _SHAPES, replace
known = set(_SHAPES)
import oomd.model.snapshot, oomd.model.decision, oomd.model.ruleset
from oomd.model.snapshot import Budget
print(len(known) > 15, set(_SHAPES) == known, replace(Budget(1, 2, source="x"), usage_bytes=5))
"""
    done = loaded(packed, more, "-O")
    assert done.stdout.splitlines()[2].startswith("True True Budget(limit_bytes=1, usage_bytes=5, "), done.stderr


OPENED = """
import sys
sys.path[:0] = ["{home}"]
from oomd.loading import load_leanly
opened, listed = [], []
def hook(name, words):
    if name in ("open", "os.listdir", "os.scandir") and str(words[0]).startswith("{home}"):
        (opened if name == "open" else listed).append(words[0])
sys.addaudithook(hook)
load_leanly("{home}/oomd")
import oomd.image
print(*opened, listed)
"""


def test_the_whole_image_is_one_file(packed: Path) -> None:
    """No other of ours is opened for it, and no folder is looked through."""
    argv = [sys.executable, "-I", "-S", "-c", OPENED.format(home=packed)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(pack_of(packed)), "[]"]


STAGE_ONE = """
import sys
sys.path[:0] = ["{home}"]
sys.argv[1:] = {words!r}
import oomd.model.values
def compile_no_shape(shape):
    print("compiled")
    return compile_shape(shape)
compile_shape, oomd.model.values._compile_shape = oomd.model.values._compile_shape, compile_no_shape
from oomd.__main__ import main
try:
    main()
except SystemExit:
    pass
import oomd.commands.exec, oomd.config.compiled, oomd.model.decision, oomd.model.values
for module in (oomd.commands.exec, oomd.config.compiled, oomd.model.decision):
    print(module.__cached__[-5:] == ".pack", bool(module.__doc__))
"""


def test_stage_one_takes_what_it_shares_with_the_killer(packed: Path) -> None:
    """Functions of values too, whenever those were loaded; its own modules keep what they say of themselves. No other
    command takes any.
    """
    for words, shared in ((["exec", "--help"], "True False"), (["check", "--help"], "False True")):
        argv = [sys.executable, "-I", "-S", "-c", STAGE_ONE.format(home=packed, words=words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        assert done.stdout.splitlines()[-3:] == ["False True", shared, shared]
        assert ("compiled" in done.stdout.splitlines()) == (words[0] == "check")


@pytest.mark.parametrize("spoil", [b"", b"nonsense", b"\xff" * 64, None])
def test_a_spoilt_pack_is_left_alone(packed: Path, spoil: bytes | None) -> None:
    """Empty, another's, cut off: everything is loaded from its own file."""
    path = pack_of(packed)
    path.write_bytes(path.read_bytes()[:-1] if spoil is None else spoil)
    before = open_descriptors()
    with pytest.raises((ValueError, EOFError, TypeError)):
        Pack(str(packed / "oomd"))
    assert open_descriptors() == before
    done = loaded(packed)
    assert (done.stdout.split()[0], done.returncode) == (ORDINARY, 0)


def test_a_pack_of_another_interpreter(packed: Path) -> None:
    """Its code would mean something else."""
    path = pack_of(packed)
    data = path.read_bytes()
    assert data.count(importlib.util.MAGIC_NUMBER, 0, 100) == 1
    path.write_bytes(data.replace(importlib.util.MAGIC_NUMBER, b"\0\0\r\n", 1))
    with pytest.raises(ValueError, match="not for this interpreter"):
        Pack(str(packed / "oomd"))


def test_where_sources_lie() -> None:
    """Packages and modules."""
    assert source_of("/x/oomd", "oomd.kill", is_package=True) == "/x/oomd/kill/__init__.py"
    assert source_of("/x/oomd", "oomd.model.values", is_package=False) == "/x/oomd/model/values.py"
