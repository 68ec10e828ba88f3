"""A component's environment, made by the real uv in the real sandbox from small projects."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.models import Component
from tta_tasks.protocols import Completed
from workers.environment import VirtualEnvironment, prepare_environment, prune
from workers.environment.declaration import read_declaration
from workers.environment.installer import DECISIVE_LINES
from workers.environment.interpreters import find_interpreter
from workers.sandbox import detect_sandbox

SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(content))
    return root


def component(
    root: str = ".", import_root: str = ".", *, groups: tuple[str, ...] = (), extras: tuple[str, ...] = ()
) -> Component:
    return Component(name="parts", root=root, import_root=import_root, modules=(), groups=groups, extras=extras)


def prepare(project: Path, wanted: Component, cache: Path) -> VirtualEnvironment:
    said: list[str] = []
    environment = prepare_environment(project, wanted, sandbox=detect_sandbox(), cache=cache, progress=said.append)
    assert set(environment.warnings) <= set(said)
    return environment


def run(environment: VirtualEnvironment, program: str, *path: Path) -> Completed:
    cwd = path[0] if path else Path("/")
    env = {"PYTHONPATH": os.pathsep.join(map(str, path))}
    argv: list[str | Path] = [environment.python, "-c", textwrap.dedent(program)]
    return detect_sandbox().run(argv, cwd=cwd, readable=environment.readable, env=env)


def test_plain_folder(tmp_path: Path) -> None:
    """A folder without a project gets our tools; the same again is there at once, whatever its modules say."""
    cache = tmp_path / "cache"  # of its own: all tests have an environment of our tools alone
    project = tree(tmp_path / "project", {"single.py": "ANSWER = 42"})
    first = prepare(project, component(), cache)
    assert (first.cached, first.warnings, first.python_version) == (False, (), platform.python_version())
    assert run(first, "import pytest, coverage, hypothesis, single; print(single.ANSWER)", project).stdout == "42\n"
    (project / "single.py").write_text("ANSWER = 43")
    again = prepare(project, component(), cache)
    assert (again.cached, again.key, again.python) == (True, first.key, first.python)
    installation = Path(sys.base_prefix)
    assert first.readable == again.readable == (first.python.parents[2], find_interpreter(None).path, installation)


def test_requirements_change_the_key(tmp_path: Path, cache: Path) -> None:
    """Requirements beside a folder of modules are installed; another file is another environment."""
    project = tree(tmp_path, {"requirements.txt": "six", "requirements-dev.txt": "iniconfig"})
    first = prepare(project, component(), cache)
    assert run(first, "import six, iniconfig").ok
    (project / "requirements.txt").write_text("six>1")
    assert prepare(project, component(), cache).key != first.key


def test_built_parts_and_metadata(tmp_path: Path, cache: Path) -> None:
    """Extension modules, generated files, entry points and the version are there; the modules come from the tree."""
    project = tree(
        tmp_path / "project",
        {
            "pyproject.toml": SETUPTOOLS,
            "setup.py": """
                from setuptools import Extension, setup
                from setuptools.command.build_py import build_py

                class Generate(build_py):
                    def run(self):
                        super().run()
                        with open(self.build_lib + "/parts/_generated.py", "w") as file:
                            file.write("MADE = True")

                setup(
                    name="parts", version="1.5", packages=["parts"], package_dir={"": "src"}, install_requires=["six"],
                    ext_modules=[Extension("parts._speed", ["speed.c"])], cmdclass={"build_py": Generate},
                    entry_points={"console_scripts": ["parts = parts.old:main"]},
                )
                """,
            "speed.c": """
                #include <Python.h>
                static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_speed"};
                PyMODINIT_FUNC PyInit__speed(void) { return PyModule_Create(&module); }
                """,
            "src/parts/__init__.py": "",
            "src/parts/old.py": "def main(): print('old')",
        },
    )
    before = sorted(project.rglob("*"))
    environment = prepare(project, component(import_root="src"), cache)
    assert environment.warnings == ()
    assert sorted(project.rglob("*")) == before
    program = """
        import importlib.metadata, parts._generated, parts._speed, six
        print(importlib.metadata.version("parts"), parts.__file__)
        """
    assert run(environment, program, project / "src").stdout == f"1.5 {project}/src/parts/__init__.py\n"
    script = environment.python.with_name("parts")
    env = {"PYTHONPATH": str(project / "src")}
    done = detect_sandbox().run([script], cwd=project, readable=environment.readable, env=env)
    assert done.stdout == "old\n"
    (project / "src/parts/old.py").unlink()
    assert "No module named 'parts.old'" in run(environment, "import parts.old", project / "src").stderr
    assert "No module named 'parts'" in run(environment, "import parts").stderr


@pytest.mark.slow
def test_monorepo_and_optional_parts(tmp_path: Path, cache: Path) -> None:
    """A neighbour in the repository is installed, and so are extras; a group that does not resolve is left out."""
    tree(
        tmp_path,
        {
            "libs/base/pyproject.toml": SETUPTOOLS + '[project]\nname = "base"\nversion = "1"\n',
            "libs/base/base.py": "ANSWER = 42",
            "apps/parts/pyproject.toml": """
                [build-system]
                requires = ["hatchling"]
                build-backend = "hatchling.build"
                [project]
                name = "parts"
                version = "2"
                dependencies = ["base"]
                optional-dependencies.test = ["six"]
                [dependency-groups]
                tests = ["this-package-does-not-exist-xyz==99"]
                [tool.uv.sources]
                base = { path = "../../libs/base" }
                """,
            "apps/parts/parts.py": "import base",
        },
    )
    project = tmp_path / "apps/parts"
    wanted = component("apps/parts", extras=("test",), groups=("tests",))
    environment = prepare(project, wanted, cache)
    assert [warning.split(",")[0] for warning in environment.warnings] == ["left out pyproject.toml:tests"]
    assert "this-package-does-not-exist-xyz" in environment.warnings[0]
    program = "import parts, base, six, importlib.metadata as m; print(base.ANSWER, m.version('parts'))"
    assert run(environment, program, project).stdout == "42 2\n"
    (tmp_path / "libs/base/base.py").write_text("ANSWER = 43")
    assert prepare(project, wanted, cache).key != environment.key


def test_project_that_does_not_build(tmp_path: Path, cache: Path) -> None:
    """Where the dependencies install but the project does not build, its tests can run all the same."""
    project = tree(
        tmp_path,
        {
            "pyproject.toml": SETUPTOOLS + '[project]\nname = "parts"\nversion = "1"\ndependencies = ["six"]\n',
            "setup.py": "raise SystemExit('this cannot be built')",
            "parts.py": "import six",
        },
    )
    environment = prepare(project, component(), cache)
    assert len(environment.warnings) == 1
    assert "does not build" in environment.warnings[0]
    assert run(environment, "import parts", project).ok


def test_unresolvable(tmp_path: Path, cache: Path) -> None:
    """Dependencies that do not exist fail with the lines that say so, and nothing is taken for ready."""
    pyproject = '[project]\nname = "parts"\nversion = "1"\ndependencies = ["this-package-does-not-exist-xyz==99"]\n'
    project = tree(tmp_path, {"pyproject.toml": pyproject})
    for _ in range(2):
        with pytest.raises(EnvironmentFailed, match="this-package-does-not-exist-xyz") as failure:
            prepare(project, component(), cache)
        assert len(failure.value.message.splitlines()) <= DECISIVE_LINES
        assert failure.value.hint


def test_malformed(tmp_path: Path, cache: Path) -> None:
    """A pyproject.toml that does not parse is told as such."""
    with pytest.raises(EnvironmentFailed, match="not TOML"):
        prepare(tree(tmp_path, {"pyproject.toml": "["}), component(), cache)


def test_built_once(tmp_path: Path, cache: Path) -> None:
    """Of tasks that need the same environment at the same time, one builds it."""
    project = tree(tmp_path, {"requirements.txt": "six>0.0.1"})
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: prepare(project, component(), cache), range(4)))
    assert sorted(environment.cached for environment in made) == [False, True, True, True]


def test_interrupted_build(tmp_path: Path, cache: Path) -> None:
    """What an interrupted build left is not taken for an environment."""
    project = tree(tmp_path, {"requirements.txt": "six>0.0.2"})
    made = prepare(project, component(), cache)
    home = made.python.parents[2]
    home.with_suffix(".json").unlink()
    shutil.rmtree(home / "venv" / "lib")
    again = prepare(project, component(), cache)
    assert (again.cached, again.key) == (False, made.key)
    assert run(again, "import six, pytest").ok


# -- interpreters -----------------------------------------------------------------------------------------------------


def test_own_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is taken where it will do, whatever uv is told in the worker's environment."""
    monkeypatch.setenv("UV_PYTHON", "2.7")
    assert find_interpreter(">=3.8").version == platform.python_version()
    assert find_interpreter(">=3.8").path != Path(sys.executable)


def test_other_interpreter() -> None:
    """Another one on this host is found by the version it is asked for."""
    for minor in range(9, 16):
        if minor != sys.version_info.minor:
            try:
                found = find_interpreter(f"==3.{minor}.*")
            except EnvironmentFailed:
                continue
            assert found.version.startswith(f"3.{minor}.")
            return
    pytest.skip("this host has one Python only")


def test_broken_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that only looks like an interpreter is none."""
    folder = tree(tmp_path, {"versions/3.5/bin/python3.5": "#!/bin/sh\nexit 1\n"}) / "versions/3.5/bin"
    (folder / "python3.5").chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match=r"==3\.5\.\*"):
        find_interpreter("==3.5.*")


@pytest.mark.parametrize("wanted", [">=3.99", "==2.6.*"])
def test_no_such_interpreter(wanted: str) -> None:
    """A version this host has not is named in the failure."""
    with pytest.raises(EnvironmentFailed) as failure:
        find_interpreter(wanted)
    assert wanted in failure.value.message


def test_meaningless_version() -> None:
    """So is what is no version at all."""
    with pytest.raises(EnvironmentFailed, match="three"):
        find_interpreter("three")


# -- pruning ----------------------------------------------------------------------------------------------------------


def entry(cache: Path, name: str, age_s: float) -> Path:
    """An environment of 100 bytes, last used so long ago."""
    home = tree(cache / "environments" / name, {"file": "x" * 100})
    ready = home.with_suffix(".json")
    ready.write_text('{"bytes": 100, "warnings": []}')
    os.utime(ready, (time.time() - age_s,) * 2)
    return home


def test_prune(tmp_path: Path) -> None:
    """The least recently used go first, but neither one that is locked nor one that may be in use."""
    oldest, older, old, fresh = (
        entry(tmp_path, name, age) for name, age in zip("abcd", (9e5, 9e4, 9e3, 9), strict=True)
    )
    assert prune(tmp_path, 400) == 0
    with FileLock(oldest.with_suffix(".lock")):
        assert prune(tmp_path, 300) == 1
    assert [home.exists() for home in (oldest, older, old, fresh)] == [True, False, True, True]
    assert prune(tmp_path, 0) == 2
    assert [path.name for path in tmp_path.glob("environments/*.json")] == ["d.json"]


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1",
        "project = 1",
        "[tool]\nuv = 3",
        "[tool.uv]\nsources = 3",
        "[tool.uv]\nworkspace = 3",
        "[tool.uv]\ndev-dependencies = {}",
        "dependency-groups = []",
        "[project]\ndynamic = 3",
        "[project]\nname = 3\noptional-dependencies = []",
        "build-system = 1",
    ],
)
def test_a_declaration_of_another_shape_is_no_fault_of_ours(tmp_path: Path, text: str) -> None:
    """It says nothing, or is refused in plain words."""
    (tmp_path / "pyproject.toml").write_text(text)
    component = Component(name="odd", modules=(), extras=("x",), groups=("dev",))
    with contextlib.suppress(EnvironmentFailed):
        assert read_declaration(tmp_path, component).fingerprint
