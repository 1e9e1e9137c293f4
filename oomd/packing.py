"""``python -X no_debug_ranges -m oomd.packing``: put all that a killer may load into one file (see oomd/loading.py),
compiled without docstrings, assertions, annotations of functions and what only type checkers read: 0.5 MiB less.
"""

from __future__ import annotations

import _frozen_importlib_external as usual
import ast
import importlib
import marshal
import os
import pkgutil
import sys

from oomd.loading import HEAD_BYTES, VALUES, mark_of, pack_path, source_of

ROOTS = ("oomd.image", "oomd.android")
"""What they import is what a killer has in memory; and of these packages one or the other module, as it is told."""
CHOICES = ("oomd.detectors", "oomd.policies", "oomd.reap")


class Slimmer(ast.NodeTransformer):
    """Takes out what is only read by people and type checkers. The names that classes declare stay: they are the fields
    of values (oomd/model/values.py).
    """

    def __init__(self) -> None:
        self._in_class = False

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Its body."""
        return self._within(node, in_class=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Without annotations."""
        node.returns = None
        arguments = node.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if each is not None:
                each.annotation = None
        return self._within(node, in_class=False)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """A mere assignment, or nothing."""
        if self._in_class:
            return node
        return ast.copy_location(ast.Assign([node.target], node.value), node) if node.value is not None else None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """What a running program sees of it."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    def _within(self, node: ast.AST, *, in_class: bool) -> ast.AST:
        before, self._in_class = self._in_class, in_class
        self.generic_visit(node)
        self._in_class = before
        return node


def compiled(source: bytes, path: str) -> bytes:
    """Its code, marshalled."""
    tree = Slimmer().visit(ast.parse(source, path))
    return marshal.dumps(compile(tree, path, "exec", dont_inherit=True, optimize=2))


def modules() -> dict[str, bool]:
    """The names of all that a killer may load, and whether each is a package; asked in a process that has loaded
    nothing of it yet.
    """
    before = set(sys.modules)
    for name in ROOTS:
        importlib.import_module(name)
    for package in CHOICES:
        for each in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(each.name)
    ours = sorted(name for name in sys.modules.keys() - before if name.startswith("oomd."))
    return {name: hasattr(sys.modules[name], "__path__") for name in ours}


def pack(home: str, names: dict[str, bool]) -> bytes:
    """The file: the length of the index, the index, and the code of one after the other."""
    body, index = bytearray(), {}
    for name, is_package in names.items():
        path = source_of(home, name, is_package=is_package)
        mark = mark_of(path)
        with open(path, "rb") as file:
            code = compiled(file.read(), path)
        index[name] = (len(body), len(code), is_package, mark)
        body += code
    shapes = importlib.import_module(VALUES).__dict__["_SHAPES"]
    head = marshal.dumps((usual.MAGIC_NUMBER, len(body), index, shapes))
    return len(head).to_bytes(HEAD_BYTES, "little") + head + body


def main() -> None:
    """For the package that this module is of."""
    home = os.path.dirname(os.path.abspath(__file__))
    path = pack_path(home)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data, new = pack(home, modules()), f"{path}.{os.getpid()}"
    try:
        with open(new, "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: it is code
            file.write(data)
        os.replace(new, path)  # a killer may have the old one open
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise


if __name__ == "__main__":
    main()
