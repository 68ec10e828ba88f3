"""The rule: folders where foreign code has run are opened through ``ForeignTree``, and through nothing else.

It is read off the source: in the packages that meet such folders, nothing opens, lists, writes or removes by a path,
except methods of a ``tta_tasks.foreign.ForeignTree``. Files that touch folders of ours alone are listed below, with the
reason.
"""

from __future__ import annotations

import ast
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Packages of ``workers`` that meet folders where foreign code has run.
PACKAGES = (
    "acceptance", "component", "deployers", "environment", "gates", "generators", "openhands", "refactorers", "stages",
)  # fmt: skip

#: File or folder -> why it may open by path.
ALLOWED = {
    "workers/component/api_breakages.py": "runs inside the sandbox",
    "workers/component/checkouts.py": "only folders of ours: snapshots as they were unpacked",
    "workers/component/copies.py": "makes a folder of ours around a copy",
    "workers/component/parsing.py": "the bounded parsers themselves; they are given text",
    "workers/component/paths.py": "resolves the folder around a tree, which is ours",
    "workers/component/wheels.py": "only folders of ours: wheels that were taken through the door",
    "workers/deployers/checks.py": "reads what was taken through the door and checked as a wheel",
    "workers/deployers/compose.py": "only folders of ours: configuration and releases of this host",
    "workers/deployers/image.py": "only a folder and a wheel of ours",
    "workers/deployers/kubernetes.py": "only folders of ours: configuration and releases of this host",
    "workers/deployers/local.py": "only a wheel of ours",
    "workers/deployers/release_store.py": "only folders of ours: releases of this host",
    "workers/deployers/rollout.py": "only folders of ours: releases of this host",
    "workers/deployers/serving": "only folders of ours: what this host serves",
    "workers/deployers/targets.py": "only configuration of this host",
    "workers/environment/__init__.py": "only folders of ours, around environments",
    "workers/environment/build.py": "makes a folder of ours, and writes a wheel of ours",
    "workers/environment/declaration.py": "asks the tree of its reader, which is the door",
    "workers/environment/installer.py": "only folders of ours, and configuration of this host",
    "workers/environment/interpreters.py": "only interpreters of this host",
    "workers/environment/keep_built.py": "runs inside the sandbox",
    "workers/environment/programs": "runs inside the sandbox",
    "workers/environment/pruning.py": "only folders of ours; of what is in them it takes sizes alone",
    "workers/environment/wheel.py": "opens archives in memory alone",
    "workers/environment/workshop.py": "only folders of ours, and wheels that were taken through the door",
    "workers/generators/characterize/program": "runs inside the sandbox",
    "workers/openhands/agents.py": "opens a circuit breaker, no file",
    "workers/openhands/conversations.py": "only folders of ours, around those of agents",
    "workers/openhands/installation.py": "only an installation of ours",
    "workers/openhands/limits.py": "opens a circuit breaker, no file",
    "workers/openhands/models.py": "only configuration of this host",
    "workers/openhands/rpc.py": "only a folder of ours",
    "workers/openhands/runner.py": "runs inside the sandbox",
    "workers/stages/cache_keys.py": "only snapshots as they were unpacked",
    "workers/stages/context.py": "makes a folder of ours",
}

#: Modules that are about files -> what of them is harmless.
MODULES: dict[str, set[str]] = {
    "shutil": {"which"},
    "glob": set(),
    "tempfile": {"gettempdir"},
    "fileinput": set(),
    "linecache": set(),
    "runpy": set(),
    "zipfile": set(),
    "tarfile": set(),
    # Readers that are given paths, or are without bounds.
    "griffe": set(),
    "configparser": set(),
    "tomllib": set(),
}
#: Functions of other modules.
FUNCTIONS = {
    "os": {
        "open", "walk", "fwalk", "scandir", "listdir", "stat", "lstat", "access", "chmod", "chown", "lchown", "link",
        "symlink", "readlink", "mkdir", "makedirs", "mkfifo", "mknod", "remove", "removedirs", "rename", "renames",
        "replace", "rmdir", "unlink", "truncate", "utime", "chdir", "statvfs",
    },
    "os.path": {
        "exists", "lexists", "isfile", "isdir", "islink", "ismount", "realpath", "getsize", "getmtime", "samefile",
    },
}  # fmt: skip
OTHERS = {("io", "open"), ("codecs", "open"), ("ast", "parse"), ("json", "load"), ("pickle", "load")}
#: Methods of paths.
METHODS = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "glob", "rglob", "iterdir", "exists", "is_file",
    "is_dir", "is_symlink", "is_mount", "is_fifo", "is_socket", "stat", "lstat", "unlink", "mkdir", "rmdir", "rename",
    "symlink_to", "hardlink_to", "chmod", "lchmod", "touch", "resolve", "readlink", "samefile",
}  # fmt: skip

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass
class Attributes:
    """Which attributes, and what functions return, are foreign trees: by name, over all files."""

    foreign: set[str] = field(default_factory=set)
    other: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        return name in self.foreign - self.other

    def collect(self, tree: ast.Module) -> None:
        """Take in what a file's annotations and assignments to ``self`` say."""
        given = {
            argument.arg
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name == "__init__"
            for argument in node.args.args
            if _annotated(argument.annotation)
        }
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(body=body):
                    for member in body:
                        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                            self._note(member.target.id, is_foreign=_annotated(member.annotation))
                case ast.FunctionDef(name=name, returns=returns):
                    self._note(name, is_foreign=_annotated(returns))
                case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value):
                    self._note(name, is_foreign=_made(value) or (isinstance(value, ast.Name) and value.id in given))

    def _note(self, name: str, *, is_foreign: bool) -> None:
        (self.foreign if is_foreign else self.other).add(name)


def _annotated(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "ForeignTree"


def _made(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "ForeignTree"


class Checker(ast.NodeVisitor):
    """Finds in one file what opens by path."""

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.found: list[tuple[int, str]] = []
        #: Names of foreign trees, scope in scope.
        self.scopes: list[set[str]] = [set()]
        #: Attributes of the class around, which win over those of the same name elsewhere.
        self.own: list[Attributes] = [Attributes()]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class: its own attributes are known."""
        own = Attributes()
        own.collect(ast.Module(body=[node], type_ignores=[]))
        self.own.append(own)
        self.generic_visit(node)
        self.own.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A scope."""
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """A scope."""
        self._function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """A scope."""
        self._function(node)

    def visit_Import(self, node: ast.Import) -> None:
        """A module under another name would not be known again."""
        for alias in node.names:
            if alias.name.partition(".")[0] in MODULES and alias.asname:
                self._note(node, f"import {alias.name} as {alias.asname}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """A function by its name alone."""
        for alias in node.names:
            if self._forbidden(node.module or "", alias.name):
                self._note(node, f"from {node.module} import {alias.name}")

    def visit_Call(self, node: ast.Call) -> None:
        """Built-in functions, and ``replace``, which texts have, too."""
        match node:
            case ast.Call(func=ast.Name(id="open" | "compile" as name)):
                self._note(node, f"{name}()")
            case ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[]):  # a text's takes two
                self._note(node, ".replace")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Functions of modules, and methods, whether they are called or handed on."""
        match node.value:
            case ast.Attribute(value=ast.Name(id="os"), attr="path"):
                module = "os.path"
            case ast.Name(id=name):
                module = name
            case _:
                module = ""
        if self._forbidden(module, node.attr):
            self._note(node, f"{module}.{node.attr}")
        elif node.attr in METHODS and not self._foreign(node.value):
            self._note(node, f".{node.attr}")
        self.generic_visit(node)

    # -- what is what --------------------------------------------------------------------------------------------------

    @staticmethod
    def _forbidden(module: str, name: str) -> bool:
        if module in MODULES:
            return name not in MODULES[module]
        return name in FUNCTIONS.get(module, ()) or (module, name) in OTHERS

    def _foreign(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return any(name in scope for scope in self.scopes)
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if name in self.own[-1]:
                return True
            case ast.Attribute(attr=name):
                return name in self.attributes
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return name == "ForeignTree" or name in self.attributes
        return False

    def _function(self, node: _Function) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bound: defaultdict[str, list[bool]] = defaultdict(list)
        for argument in arguments:
            bound[argument.arg].append(_annotated(argument.annotation))
        self.scopes.append({name for name, foreign in bound.items() if all(foreign)})
        for name, value in _bindings(node):
            bound[name].append(value is not None and self._foreign(value))
        hidden = {name for name, foreign in bound.items() if not all(foreign)}
        self.scopes[-1] = {name for name, foreign in bound.items() if all(foreign)}
        outer = self.scopes
        self.scopes = [*(scope - hidden for scope in outer[:-1]), outer[-1]]
        self.generic_visit(node)
        self.scopes = outer[:-1]

    def _note(self, node: ast.AST, what: str) -> None:
        self.found.append((getattr(node, "lineno", 0), what))


def _bindings(function: _Function) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that a function binds, with what; ``None`` where that is not one expression."""
    known: set[int] = set()
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name() as target], value=value) | ast.NamedExpr(target=target, value=value):
                known.add(id(target))
                yield target.id, value
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(names) == len(values):
                for name, each in zip(names, values, strict=True):
                    if isinstance(name, ast.Name):
                        known.add(id(name))
                        yield name.id, each
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in known:
            yield node.id, None


@cache
def violations(root: Path) -> dict[str, list[str]]:
    """File -> what in it opens by path, of the packages below ``root``."""
    files = sorted(file for package in PACKAGES for file in (root / "workers" / package).rglob("*.py"))
    trees = {file.relative_to(root).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    attributes = Attributes()
    for tree in trees.values():
        attributes.collect(tree)
    found: dict[str, list[str]] = {}
    for name, tree in trees.items():
        checker = Checker(attributes)
        checker.visit(tree)
        if checker.found:
            found[name] = [f"{name}:{line}: {what}" for line, what in sorted(set(checker.found))]
    return found


def covers(entry: str, file: str) -> bool:
    """Whether an entry of the list is the file, or a folder around it."""
    return file == entry or file.startswith(f"{entry}/")


def test_folders_of_foreign_code_are_opened_through_the_one_door() -> None:
    """Use ``ForeignTree``, or a tree in which nothing has run; a file for folders of ours alone goes into the list."""
    found = violations(ROOT)
    assert not [
        line for file, lines in found.items() for line in lines if not any(covers(entry, file) for entry in ALLOWED)
    ]


@pytest.mark.parametrize("entry", ALLOWED)
def test_the_list_of_exceptions_holds_nothing_that_needs_none(entry: str) -> None:
    """An entry whose file is gone, or opens nothing by path any more, must go."""
    assert any(covers(entry, file) for file in violations(ROOT))


@pytest.mark.parametrize(
    "body",
    [
        "open(path)",
        "import os\nos.open(path, 0)",
        "import os\nos.path.realpath(path)",
        "import os\nos.walk(path)",
        "from os import scandir",
        "from os.path import exists",
        "path.read_text()",
        "path.rglob('*')",
        "(path / 'x').resolve()",
        "path.replace(other)",
        "list(map(Path.unlink, paths))",
        "import shutil\nshutil.rmtree(path)",
        "from shutil import copytree",
        "import shutil as harmless",
        "import tempfile\ntempfile.TemporaryDirectory()",
        "import tomllib\ntomllib.load(file)",
        "import configparser\nconfigparser.ConfigParser()",
        "import griffe\ngriffe.load('x')",
        "import ast\nast.parse(source)",
        "import json\njson.load(file)",
        "def f(tree: Path):\n    return tree.read_text('x')",
        "def f(tree: ForeignTree):\n    tree = other\n    return tree.read_text('x')",
        "def f(tree: ForeignTree):\n    return [tree.read_text('x') for tree in trees]",
        "def f():\n    tree = ForeignTree(root).root\n    return tree.read_text('x')",
        "class A:\n    tree: Path\n    def f(self):\n        return self.tree.is_file('x')",
        "class A:\n    place: ForeignTree\nclass B:\n    place: Path\ndef f(b):\n    return b.place.is_file('x')",
    ],
)
def test_the_rule_sees(tmp_path: Path, body: str) -> None:
    """A new way around the door."""
    assert checked(tmp_path, body)


@pytest.mark.parametrize(
    "body",
    [
        "ForeignTree(root).read_text('x')",
        "def f(tree: ForeignTree):\n    return tree.is_file('x')",
        "def f():\n    tree = ForeignTree(root)\n    def g():\n        return tree.read_text('x')\n    return g",
        "def f():\n    tree, name = ForeignTree(root), 'x'\n    return tree.read_text(name)",
        "class A:\n    def __init__(self):\n        self.x = ForeignTree(1)\n    def f(self):\n        self.x.exists",
        "class A:\n    @property\n    def place(self) -> ForeignTree: ...\ndef f(a):\n    return a.place.is_file('x')",
        "class A:\n    x: ForeignTree\n    def f(self):\n        self.x.is_file('x')\nclass B:\n    x: Path",
        "text.replace('a', 'b')",
        "from dataclasses import replace\nreplace(work, root=1)",
        "import os\nos.environ['a'] + os.path.join('a', 'b')",
        "import ast\nast.walk(tree)",
        "import shutil\nshutil.which('git')",
    ],
)
def test_the_rule_lets_pass(tmp_path: Path, body: str) -> None:
    """What opens nothing by path."""
    assert not checked(tmp_path, body)


def checked(root: Path, body: str) -> dict[str, list[str]]:
    """What the rule finds in a new file."""
    file = root / "workers" / PACKAGES[0] / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text(textwrap.dedent(body), encoding="utf-8")
    return violations(root)
