"""The wheel of this tree, unpacked for the guest and compiled by the guest's Python (on the host: 20 times faster)."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm.image import cache_folder
from tests.vm.killers import TREE
from tests.vm.rootfs import OOMD_PREFIX

if TYPE_CHECKING:
    from tests.vm.image import Image

KEEP_S = 24 * 3600
_INPUTS = ("pyproject.toml", "README.md", "LICENSE")


@functools.cache
def site_folder(image: Image) -> Path:
    """A folder with what ``pip install`` would put into site-packages; built anew when a source file changed."""
    sources = sorted((TREE / "oomd").rglob("*.py"))
    digest = hashlib.sha256(image.folder.name.encode())
    for path in (TREE / "pyproject.toml", *sources):
        digest.update(str(path.relative_to(TREE)).encode() + b"\0" + path.read_bytes())
    folder = cache_folder() / f"site-{digest.hexdigest()[:12]}"
    if not folder.is_dir():
        for other in cache_folder().glob("site-*"):
            if time.time() - other.stat().st_mtime > KEEP_S:  # a run from another tree may be using it
                shutil.rmtree(other, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="oomd-wheel-", dir=cache_folder()) as work:
            built = _build(Path(work), image)
            try:
                built.rename(folder)
            except OSError:
                if not folder.is_dir():  # another run was quicker
                    raise
    return folder


def _build(work: Path, image: Image) -> Path:
    # In a copy: a build writes into its tree.
    copy = work / "tree"
    shutil.copytree(TREE / "oomd", copy / "oomd", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _INPUTS:
        shutil.copy(TREE / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work), str(copy)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"the wheel cannot be built: {done.stdout}{done.stderr}")
    site = work / "site"
    with zipfile.ZipFile(next(work.glob("oomd-*.whl"))) as wheel:
        wheel.extractall(site)
    # Without -s a traceback would name a folder of the host.
    compileall = [*image.tool(image.python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    home = {**os.environ, "PYTHONHOME": str(image.folder / "tools/usr")}
    subprocess.run([*compileall, "-s", str(site), "-p", guest_site(image), str(site)], check=True, env=home)
    return site


def guest_site(image: Image) -> str:
    """Where it goes in the guest."""
    return f"{OOMD_PREFIX}/lib/{image.python}/site-packages"
