"""Builds what a guest boots from: kernel, initrd and root file system, all from the host's own Debian mirror.

Nothing is installed on the host: QEMU and the tools of the guest's release are unpacked, not configured, beside the
image and run through their own dynamic linker. Building needs root (mmdebstrap runs maintainer scripts in a chroot);
booting does not.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm import rootfs

SUITE = "trixie"
ARCHITECTURE = "x86_64-linux-gnu"
HOST_PACKAGES = ("mmdebstrap", "e2fsprogs", "debian-archive-keyring")
"""What the host must have (the Makefile installs it). QEMU comes with the guest's release: newer is much faster."""
TOOL_PACKAGES = (
    *("qemu-system-x86", "seabios", "busybox-static", "linux-image-cloud-amd64", "zstd", "python3"),
    *("libpython3-stdlib", "kmod"),
)
IMAGE_SIZE = "2G"
KEPT_S = 2 * 86400
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_APT_OPTIONS = ('Acquire::Check-Valid-Until "false"', 'Acquire::Check-Date "false"', 'Acquire::Languages "none"')
_NO_DOCS = ("path-exclude=/usr/share/doc/*", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/locale/*")
_INIT = """#!/busybox sh
/busybox mount -t devtmpfs dev /dev
for module in @MODULES@; do /busybox insmod /$module.ko; done
/busybox mount -t ext4 -o noatime /dev/vda /root
/busybox mount -t ext4 -o noatime /dev/vdb /root/job
/busybox mount --move /dev /root/dev
exec /busybox switch_root /root /usr/lib/systemd/systemd
"""


class ImageError(Exception):
    """The image cannot be built here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Image:
    """The files of one built image; everything below ``folder``."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The uncompressed kernel, booted through PVH: 2.4 s quicker under emulation than a bzImage."""
        return self.folder / "vmlinux"

    @property
    def initrd(self) -> Path:
        """Only virtio_blk and the mount of the root file system."""
        return self.folder / "initrd"

    @property
    def root(self) -> Path:
        """The root file system; always booted with a snapshot, so it never changes."""
        return self.folder / "root.ext4"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages inside, by package."""
        lines = (self.folder / "versions").read_text().splitlines()
        return dict(line.split(" ", 1) for line in lines if " " in line)

    @property
    def python(self) -> str:
        """The guest's interpreter, as in ``python3.13``."""
        names = (path.name for path in (self.folder / "tools/usr/bin").glob("python3.*"))
        return next(name for name in names if name.removeprefix("python3.").isdigit())

    def tool(self, name: str) -> list[str]:
        """The command line of a program of the guest's release that runs on the host."""
        return _tool(self.folder / "tools", name)


def cache_folder() -> Path:
    """Where images live: outside the tree, shared by all checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "oomd-vm"


def ensure_image(*, log: bool = True) -> Image:
    """The image for this version of its inputs, built if it is not there. Raises ImageError."""
    mirror = find_mirror()
    folder = cache_folder() / f"image-{_inputs_hash(mirror)}"
    image = Image(folder)
    if folder.is_dir():
        os.utime(folder)
        return image
    if os.geteuid() != 0:
        raise ImageError("building the guest needs root once (mmdebstrap); run it as root, then boot as anybody")
    missing = [name for name in ("mmdebstrap", "mke2fs", "debugfs") if shutil.which(name) is None]
    if missing:
        raise ImageError(f"not installed: {', '.join(missing)} (packages {', '.join(HOST_PACKAGES)})")
    if log:
        print(f"building the guest in {folder} (about a minute, once)", flush=True)
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        _build(part, mirror)
        if not folder.exists():  # another process may have been quicker
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _remove_older(folder)
    return image


def find_mirror() -> str:
    """The address of Debian's main archive as this host's apt knows it. Raises ImageError."""
    form = "$(REPO_URI) $(COMPONENT) $(ORIGIN)/$(LABEL)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImageError(f"the host's apt cannot be asked for its mirror: {error}") from error
    for line in lines:
        address, component, label = line.split(" ")
        if (component, label) == ("main", "Debian/Debian"):
            return address.rstrip("/")
    raise ImageError("the host's apt knows no Debian mirror; run apt-get update")


def _inputs_hash(mirror: str) -> str:
    digest = hashlib.sha256(mirror.encode())
    for source in (__file__, rootfs.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:12]


def _remove_older(folder: Path) -> None:
    """Images of former inputs, half a gigabyte each, unless another checkout used them lately."""
    for other in folder.parent.glob("image-*"):
        if time.time() - other.stat().st_mtime > KEPT_S:
            shutil.rmtree(other, ignore_errors=True)


def _build(part: Path, mirror: str) -> None:
    tools = part / "tools"
    _mmdebstrap("extract", TOOL_PACKAGES, tools, mirror)
    (kernel,) = (tools / "boot").glob("vmlinuz-*")
    (part / "vmlinux").write_bytes(_uncompress(kernel.read_bytes(), _tool(tools, "zstd")))
    (modules,) = (tools / "usr/lib/modules").iterdir()
    (part / "initrd").write_bytes(_make_initrd(tools, modules))
    tree = part / "tree"
    _mmdebstrap("minbase", rootfs.PACKAGES, tree, mirror)
    for name in rootfs.MODULES:
        _copy_module(modules, name, tree / "usr/lib/vm-modules")
    rootfs.customise(tree)
    query = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package} ${Version}\n"]
    (part / "versions").write_text(
        subprocess.run(query, check=True, capture_output=True, text=True).stdout + f"kernel {modules.name}\n"
    )
    _run(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-m",
            "0",
            "-d",
            str(tree),
            f"{part}/root.ext4",
            IMAGE_SIZE,
        ]
    )
    for waste in (tree, tools / "usr/lib/modules", tools / "boot", tools / "usr/share/doc"):
        shutil.rmtree(waste, ignore_errors=True)


def _mmdebstrap(variant: str, packages: tuple[str, ...], target: Path, mirror: str) -> None:
    command = ["mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option}" for option in _APT_OPTIONS] + [f"--dpkgopt={option}" for option in _NO_DOCS]
    _run([*command, SUITE, str(target), mirror])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise ImageError(f"{command[0]} failed ({done.returncode}):\n{done.stdout}{done.stderr}"[-4000:])


def _tool(tools: Path, name: str) -> list[str]:
    libraries = tools / "usr/lib" / ARCHITECTURE
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(tools / "usr/bin" / name)]


def _uncompress(kernel: bytes, zstd: list[str]) -> bytes:
    """The ELF kernel inside a bzImage: the payload is found by its magic; what follows it is ignored."""
    for found in re.finditer(re.escape(_ZSTD_MAGIC), kernel):
        done = subprocess.run([*zstd, "-dcq"], input=kernel[found.start() :], capture_output=True, check=False)
        if done.stdout.startswith(b"\x7fELF"):
            return done.stdout
    raise ImageError("the kernel image holds no zstd payload")


def _find_module(modules: Path, name: str) -> bytes | None:
    found = list(modules.rglob(f"{name}.ko.xz")) or list(modules.rglob(f"{name.replace('_', '-')}.ko.xz"))
    return lzma.decompress(found[0].read_bytes()) if found else None


def _module_order(modules: Path, name: str) -> list[str]:
    """The module and what it needs, in the order of loading; built-in ones have no file and are left out."""
    content = _find_module(modules, name)
    if content is None:
        return []
    needs = re.search(rb"\0depends=([^\0]*)\0", content)
    order: list[str] = []
    for need in needs.group(1).decode().split(",") if needs else []:
        order += [each for each in _module_order(modules, need) if need and each not in order]
    return [*order, name]


def _copy_module(modules: Path, name: str, target: Path) -> None:
    """Uncompressed modules and the order in which to load them (the guest has no depmod)."""
    target.mkdir(parents=True, exist_ok=True)
    order = _module_order(modules, name)
    for each in order:
        (target / f"{each}.ko").write_bytes(_find_module(modules, each) or b"")
    (target / f"{name}.order").write_text("".join(f"{each}.ko\n" for each in order))


def _make_initrd(tools: Path, modules: Path) -> bytes:
    order = _module_order(modules, "virtio_blk")
    entries: list[tuple[str, int, bytes]] = [(name, 0o040755, b"") for name in ("dev", "root")]
    entries += [("busybox", 0o100755, (tools / "usr/bin/busybox").read_bytes())]
    entries += [("init", 0o100755, _INIT.replace("@MODULES@", " ".join(order)).encode())]
    entries += [(f"{name}.ko", 0o100644, _find_module(modules, name) or b"") for name in order]
    return b"".join(_cpio(*entry) for entry in [*entries, ("TRAILER!!!", 0, b"")])


def _cpio(name: str, mode: int, content: bytes) -> bytes:
    """One entry in the kernel's initramfs format (newc, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
