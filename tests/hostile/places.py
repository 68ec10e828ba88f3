"""Examples on disk: a folder for each, with words turned into paths."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.hostile.examples import BESIDE, MOMENTS, VICTIMS, Deed, Project, Wheel
from tests.hostile.zone import FILES, FOLDERS, Zone
from tta_tasks import snapshot
from tta_tasks.errors import TtaError
from tta_tasks.models import Component, Module
from tta_tasks.protocols import Limits, Sandbox, Workspace

DEEDS = Path(__file__).parents[1] / "data" / "hostile" / "deeds.py"
#: Deeds that the harness itself may do when it makes a tree; each writes nothing but its victim.
NODE_DEEDS = frozenset(
    {"link", "fifo", "socket", "folder", "sparse", "deep", "text", "chmod", "environment_folder", "plant"}
)
MODULE = Module(name="calc.ops", path="src/calc/ops.py")
COMPONENT = Component(
    name="calc",
    import_root="src",
    tests="tests",
    modules=(MODULE, Module(name="calc", path="src/calc/__init__.py")),
    requires_python=f">=3.{sys.version_info.minor}",
)
#: One command of an example may take so long: hostile code that waits is cut off.
LIMITS = Limits(wall_s=6.0, memory_bytes=1 << 30, processes=64, file_bytes=256 << 20, output_bytes=1 << 20)

_CANARIES = sorted({*FILES, *FOLDERS, "socket", "pipe", "zone"}, key=len, reverse=True)
_WORD = re.compile("|".join(f"@{name}" for name in _CANARIES))
_OPS = """\
import os, sys
{begins}
def half(n):
    {call}
    if n % 2 == 1:
        raise ValueError("odd: {{}}".format(n))
    else:
        return n // 2

def sign(n):
    if n > 0:
        return 1
    return 0
"""
_TEST = """\
from calc.ops import half, sign
{imports}

def test_half():
    assert half(4) == 2


def test_deeds():
    {test}
    assert half(2) == 1
"""
_CONFTEST = """\
import atexit
{imports}

def pytest_configure(config):
    {configure}


def pytest_sessionfinish(session):
    {finish}


atexit.register(lambda: {late})
"""
_CANDIDATE = """\
\"\"\"Proposed.\"\"\"

import pytest

from calc import _deeds
from calc.ops import half, sign


def test_sign():
    assert sign(3) == 1


def test_not_positive():
    {candidate}
    assert sign(-1) == 0


def test_odd():
    with pytest.raises(ValueError, match="odd: 3"):
        half(3)
"""
_BACKENDS = {
    "backend": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "setuptools": '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n',
    "hatchling": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
    "plain": "",
}
_PROJECT = '[project]\nname = "calc"\nversion = "1.0"\n[tool.hatch.build.targets.wheel]\npackages = ["src/calc"]\n'
_SETUP = """\
import sys
sys.path.insert(0, "src/calc")
import _deeds
{backend}
from setuptools import setup
setup(name="calc", version="1.0", packages=["calc"], package_dir={{"": "src"}})
{built}
"""
_BACKEND = """\
import os, sys
sys.path.insert(0, os.path.join(os.getcwd(), "src", "calc"))
import _deeds
{backend}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    _deeds.deliver(folder, {name}, {door}, {target})
    {built}
    return {name}


build_editable = build_wheel
"""
_IMPORTS = "from calc import _deeds"
_FILES = {
    "src/calc/ops.py": _OPS,
    "tests/test_ops.py": _TEST,
    "tests/conftest.py": _CONFTEST,
    "README.md": "# calc\n",
    "backend.py": _BACKEND,
}
#: Bounds of a snapshot of an example: small ones, so that bombs meet them early.
BOUNDS = {"max_bytes": 8 << 20, "max_files": 500}


@cache
def deeds() -> ModuleType:
    """The deeds, to be done by the harness itself where it makes a tree."""
    spec = importlib.util.spec_from_file_location("hostile_deeds", DEEDS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Place:
    """The folder of one example.

    Attributes:
        folder: Where everything of it is; gone afterwards.
        zone: The canaries.
        python: Interpreter of the components' environment, and what it needs to see.
        said: What came back, for people or other hosts: messages, results, patches, wheels.
    """

    folder: Path
    zone: Zone
    python: Path
    sandbox: Sandbox
    #: A pipe that hostile code writes to when it begins.
    mark: Path
    readable: tuple[Path, ...] = ()
    said: list[str | bytes] = field(default_factory=list)
    #: How it ended, for the counts: ``accepted``, ``PatchError``.
    ended: str = ""

    @property
    def tree(self) -> Path:
        """The repository."""
        return self.folder / "tree"

    @property
    def scratch(self) -> Path:
        """The folder beside it."""
        return self.folder / "scratch"

    def workspace(self) -> Workspace:
        """The example as a stage works on it."""
        self.scratch.mkdir(exist_ok=True)
        return Workspace(
            root=self.tree,
            component=COMPONENT,
            python=self.python,
            sandbox=self.sandbox,
            scratch=self.scratch,
            readable=self.readable,
            limits=LIMITS,
        )

    # -- words ---------------------------------------------------------------------------------------------------------

    def word(self, word: object) -> Any:  # noqa: ANN401 - as it came
        """A word of an example with its places put in."""
        if isinstance(word, tuple | list):
            return [self.word(each) for each in word]
        if isinstance(word, dict):
            return {key: self.word(value) for key, value in word.items()}
        if not isinstance(word, str):
            return word
        if word == "#port":
            return self.zone.port
        if word.startswith("%") and (own := self._own(word[1:])):
            return str(own)
        return _WORD.sub(lambda found: str(self._canary(found[0][1:])), word)

    def _own(self, word: str) -> Path | None:
        name, _, rest = word.partition("/")
        special = {"root": self.tree, "site": next((self.python.parents[1] / "lib").glob("*/site-packages"), self.tree)}
        places = {**{each: self.folder / way for each, way in BESIDE.items()}, **special}
        place = places.get(name) or (self.tree / VICTIMS[name] if name in VICTIMS else None)
        return place / rest if place and rest else place

    def _canary(self, name: str) -> Path:
        if name == "zone":
            return self.zone.folder
        return self.zone.folder / "canaries" / name if name in {"socket", "pipe"} else self.zone.path(name)

    # -- trees ---------------------------------------------------------------------------------------------------------

    def write(self, path: str, text: str) -> None:
        """Write a file of the tree."""
        target = self.tree / path
        if self.is_own(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_dir() or target.is_symlink():
                target.unlink(missing_ok=True)
                target.write_text(text, encoding="utf-8", errors="surrogatepass")

    def is_own(self, path: Path) -> bool:
        """Whether the harness may write there: nothing on the way has become a link or a file."""
        real = Path(os.path.realpath(path.parent))
        ways = [parent for parent in path.parents if parent.is_relative_to(self.tree)]
        return real.is_relative_to(os.path.realpath(self.tree)) and all(
            way.is_dir() or not os.path.lexists(way) for way in ways
        )

    def make_tree(self, nodes: Iterable[Deed], configurations: Mapping[str, str]) -> None:
        """Make a small project, and then what ``nodes`` and ``configurations`` make of it."""
        self.make_project(Project((), {}, {}))
        self._make_odd(nodes, configurations)

    def _make_odd(self, nodes: Iterable[Deed], configurations: Mapping[str, str]) -> None:
        for name, text in configurations.items():
            if name == ".git/config" and self.is_own(self.tree / ".git" / "HEAD"):
                for folder in (".git/objects", ".git/refs"):
                    (self.tree / folder).mkdir(parents=True, exist_ok=True)
                self.write(".git/HEAD", "ref: refs/heads/main\n")
            self.write(name, self.word(text))
        for node in nodes:
            name, victim, *arguments = map(self.word, node)
            path = Path(victim)
            assert name in NODE_DEEDS
            if not self.is_own(path) or not path.is_relative_to(self.tree):
                continue
            if name in {"chmod", "plant", "deep", "environment_folder"} and path.is_symlink():
                continue
            with chdir(self.folder):
                deeds().do([[name, str(path), *arguments]])

    def make_project(self, project: Project) -> None:
        """Make a component whose code does what ``project`` says."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        text = DEEDS.read_text(encoding="utf-8").replace(
            'HOST = ""', f"HOST = {str(Path('/proc/self/ns/pid').readlink())!r}"
        )
        self.write("src/calc/_deeds.py", text.replace('MARK = ""', f"MARK = {str(self.mark)!r}"))
        self.write("src/calc/__init__.py", "import calc.ops\n")
        does = {moment: self._call(project.deeds.get(moment, ())) for each in MOMENTS.values() for moment in each}
        wheel = project.wheel or Wheel(())
        does |= {
            "begins": _IMPORTS if does["import"] == "None" else f"{_IMPORTS}\n{does['import']}",
            "name": repr(wheel.name),
            "door": repr(wheel.door),
            "target": repr(self.word(wheel.target)),
        }
        files = {**_FILES, **({"setup.py": _SETUP} if project.builder == "setuptools" else {})}
        for path, template in files.items():
            self.write(path, template.format(imports=_IMPORTS, **does))
        self.write("pyproject.toml", _BACKENDS[project.builder] + _PROJECT)
        self._make_odd(project.nodes, project.configurations)

    def check_out(self, project: Project) -> None:
        """Make a component as a worker finds it: packed as a snapshot, and unpacked; without what no snapshot takes."""
        self.make_project(project)
        try:
            packed = snapshot.pack(self.tree, **BOUNDS)
        except TtaError:
            self.remove()
            self.make_project(replace(project, nodes=(), configurations={}))
            packed = snapshot.pack(self.tree, **BOUNDS)
        self.remove()
        snapshot.unpack(packed.data, self.tree, **BOUNDS)

    def candidate(self, project: Project) -> str:
        """The source of the tests that an engine proposes."""
        return _CANDIDATE.format(candidate=self._call(project.deeds.get("candidate", ())))

    def _call(self, plan: Iterable[Deed]) -> str:
        told = [self.word(deed) for deed in plan]
        return f"_deeds.do(__import__('json').loads({json.dumps(told)!r}))" if told else "None"

    def remove(self) -> None:
        """Remove the tree and all beside it, whatever they have become."""
        subprocess.run(["rm", "-rf", "--", *map(str, self.folder.iterdir())], check=True)  # noqa: S607 - the usual one
