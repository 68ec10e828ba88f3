"""What is drawn: plain data, the same for a seed on every host.

Places are named by words that :class:`tests.hostile.places.Place` turns into paths: ``@ssh`` is a canary outside,
``%module`` something of the example's own. A *deed* is a name of ``tests/data/hostile/deeds.py`` and its arguments.
"""

# ruff: noqa: E501 - tables read better so
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.hostile.zone import FILES, FOLDERS

Word = str | int | float | tuple[str, ...]
Deed = tuple[Word, ...]

#: The parts of a project that are worth replacing, relative to its root.
VICTIMS = {
    "module": "src/calc/ops.py",
    "init": "src/calc/__init__.py",
    "package": "src/calc",
    "src": "src",
    "test": "tests/test_ops.py",
    "tests": "tests",
    "conftest": "tests/conftest.py",
    "new": "tests/test_new.py",
    "pyproject": "pyproject.toml",
    "setup": "setup.py",
    "cfg": "setup.cfg",
    "requirements": "requirements.txt",
    "ruff": "ruff.toml",
    "readme": "README.md",
    "git": ".git",
    "tta": ".tta",
    "targets": ".tta/targets.toml",
    "ignored": ".tta/.gitignore",
    "lock": ".tta/start.lock",
    "stack": ".tta/stack.json",
    "venv": "venv",
    "cache": "src/calc/__pycache__",
    "odd": "src/new\nline\t\x1b[2J\u202e.py",
    "surrogate": "src/\udcff.py",
    "long": f"tests/test_{'l' * 240}.py",
    "dash": "--config=x.py",
    "space": " .py",
}
#: Beside the project, where its code may write, too.
BESIDE = {"scratch": "scratch", "dist": "dist", "above": "."}

_FILES = st.sampled_from([f"@{name}" for name in FILES])
_FOLDERS = st.sampled_from([f"@{name}" for name in FOLDERS])
_VICTIMS = st.sampled_from([f"%{name}" for name in VICTIMS])
_FILE_VICTIMS = st.sampled_from(["%module", "%init", "%test", "%conftest", "%pyproject", "%new", "%setup", "%readme"])
_FOLDER_VICTIMS = st.sampled_from(
    ["%package", "%src", "%tests", "%cache", "%venv", "%git", "%tta", "%scratch", "%dist"]
)
_TARGETS = st.one_of(
    _FILES,
    _FILES,
    _FOLDERS,
    st.sampled_from(["@socket", "@pipe", "/dev/zero", "/proc/self/mem", "/proc/self/environ", "/proc"]),
    st.sampled_from([".", "..", "nowhere", "ops.py", "../../../../../../..", "%module", "%root", "%above"]),
)
_INTO = st.sampled_from(
    [("%module",), ("%test", "%readme"), ("%init", "%new"), ("%scratch/stolen",), ("%dist/stolen",)]
)
_TEXTS = st.one_of(
    st.sampled_from(
        ["", "\0", "def f(:\n", "x = 1\n" * 2000, "(" * 5000, "\udcff", "# coding: rot13\n", "[tool", "[" * 9000]
    ),
    st.text(max_size=60),
)


def _deed(name: str, *arguments: SearchStrategy[Word]) -> SearchStrategy[Deed]:
    return st.tuples(st.just(name), *arguments)


# -- what a tree can be from the beginning -----------------------------------------------------------------------------

_NODES = st.one_of(
    _deed("link", _VICTIMS, _TARGETS),
    _deed("link", _VICTIMS, _TARGETS),
    _deed("link", _VICTIMS, _FILES),
    _deed("fifo", _VICTIMS),
    _deed("socket", _FILE_VICTIMS),
    _deed("folder", _FILE_VICTIMS),
    _deed("sparse", _FILE_VICTIMS, st.sampled_from([10 << 20, 900 << 20])),
    _deed("deep", _FOLDER_VICTIMS, st.sampled_from([5, 120, 300])),
    _deed("text", _VICTIMS, _TEXTS),
    _deed("chmod", _VICTIMS, st.sampled_from([0, 0o111, 0o4777])),
    _deed("environment_folder", _FOLDER_VICTIMS, _FILES),
    _deed("plant", st.sampled_from(["%cache", "%src", "%root", "%tests"]), st.sampled_from(["x.pth", "sitecustomize.py", "ops.cpython-311.pyc", "pytest.py", "json.py"])),
)  # fmt: skip
NODES = st.lists(_NODES, max_size=6).map(tuple)

_GIT = """\
[core]
\tfsmonitor = "echo owned > @folder/owned; false"
\thooksPath = hooks
\tsshCommand = "echo owned > @folder/owned"
\tworktree = @neighbour
\tattributesFile = @file
[filter "x"]
\tclean = "cat @ssh; echo owned > @folder/owned"
\tsmudge = "echo owned > @folder/owned"
\tprocess = "echo owned > @folder/owned"
\trequired = true
[diff "x"]
\ttextconv = "echo owned > @folder/owned"
\tcommand = "echo owned > @folder/owned"
[remote "origin"]
\turl = ext::sh -c "echo owned > @folder/owned"
\tpromisor = true
\tpartialclonefilter = blob:none
\tuploadpack = "echo owned > @folder/owned"
[extensions]
\tpartialClone = origin
[include]
\tpath = @file
"""
#: File -> contents worth trying; places are put in when it is written.
_CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "pyproject.toml": (
        "tool = 1\n",
        "[tool]\nruff = 3\ncoverage = []\n[project]\nname = 3\n",
        '[tool.ruff]\nextend = "@toml"\ncache-dir = "@folder"\nsrc = ["@neighbour"]\n',
        '[tool.ruff.format]\n[tool.black]\nline-length = "@file"\n',
        '[tool.pytest.ini_options]\naddopts = "--junitxml=@file --basetemp=@folder -p nothing"\ncache_dir = "@folder"\n',
        '[tool.pytest.ini_options]\nlog_file = "@file"\ntestpaths = ["@neighbour"]\npythonpath = ["@neighbour"]\n',
        '[tool.coverage.run]\nplugins = ["_deeds"]\ndata_file = "@file"\n[tool.coverage.report]\nexclude_also = [".*"]\n',
        '[tool.mypy]\nplugins = ["@file"]\ncache_dir = "@folder"\nmypy_path = "@neighbour"\njunit_xml = "@file"\n',
        '[tool.tta]\nname = "../../.."\nsource = "@neighbour"\ntests = "@folder"\n[tool.tta.gates]\ncoverage = "x"\n',
        '[tool.tta]\nroot = ".."\nmodules = ["@file"]\n',
        "[project]\nname = 'calc'\nversion = '1'\nrequires-python = '" + "(" * 3000 + "'\n",
    ),
    "setup.cfg": (
        "[metadata]\nname = file: @ssh\nlong_description = file: @ssh, ../../../../etc/hosts\n",
        "[mypy]\nplugins = @file\n[tool:pytest]\naddopts = -c @file\n",
        "[metadata\n\0",
    ),
    "requirements.txt": (
        "-r @ssh\n-c @file\n",
        "-e @neighbour\n",
        "--find-links @folder\n",
        "calc @ file://@neighbour\n",
    ),
    "ruff.toml": ('extend = "@toml"\n', "line-length = 'wide'\n", 'cache-dir = "@folder"\noutput-file = "@file"\n'),
    "tox.ini": ("[pytest]\naddopts = --rootdir=@folder --log-file=@file\n", "[coverage:run]\ndata_file=@file\n"),
    ".coveragerc": ("[run]\nplugins = _deeds\ndata_file = @file\ndebug = trace\ndebug_file = @file\n", "["),
    "mypy.ini": ("[mypy]\nplugins = @file\ncache_dir = @folder\n",),
    ".pre-commit-config.yaml": ("id: ruff-format\n", "a: &a [*a]\n"),
    ".git": ("gitdir: @neighbour/.git\n", "gitdir: ../../../../..\n"),
    ".git/config": (_GIT,),
    ".gitattributes": ("* filter=x diff=x merge=x working-tree-encoding=UTF-16 ident\n",),
    ".gitignore": ("*\n", "!" * 5000 + "\n", "[" * 200 + "\n"),
    ".gitmodules": ('[submodule "x"]\n\tpath = src\n\turl = @neighbour\n\tupdate = !echo owned > @folder/owned\n',),
    "PKG-INFO": ("Version: ../../x\n", "Version: 1\nLicense-File: @ssh\n"),
    "conftest.py": ("collect_ignore_glob = ['*']\n", "pytest_plugins = ['_deeds', 3]\n", "import _deeds\n"),
}
CONFIGURATIONS = st.dictionaries(st.sampled_from(sorted(_CONFIGURATIONS)), st.integers(0, 20), max_size=4).map(
    lambda drawn: {name: _CONFIGURATIONS[name][number % len(_CONFIGURATIONS[name])] for name, number in drawn.items()}
)


# -- what code does ----------------------------------------------------------------------------------------------------

_SWAPS = st.one_of(
    _deed("link", _FILE_VICTIMS, _TARGETS),
    _deed("link", _FILE_VICTIMS, _FILES),
    _deed("link", _FOLDER_VICTIMS, _FOLDERS),
    _deed("hard_link", _FILE_VICTIMS, _FILES),
    _deed("fifo", _FILE_VICTIMS),
    _deed("socket", _FILE_VICTIMS),
    _deed("folder", _FILE_VICTIMS),
    _deed("sparse", _FILE_VICTIMS, st.sampled_from([10 << 20, 200 << 20])),
    _deed("deep", _FOLDER_VICTIMS, st.sampled_from([120, 300])),
    _deed("text", _VICTIMS, _TEXTS),
    _deed("append", _FILE_VICTIMS, _TEXTS),
    _deed("chmod", _VICTIMS, st.sampled_from([0, 0o777])),
    _deed("delete", _VICTIMS),
    _deed("environment_folder", _FOLDER_VICTIMS, _FILES),
    _deed("plant", st.sampled_from(["%cache", "%src", "%root", "%site"]), st.sampled_from(["x.pth", "sitecustomize.py", "pytest.py"])),
    _deed("swap", _FILE_VICTIMS, _FILES, st.just(2.0)),
)  # fmt: skip
_REACHES = st.one_of(
    _deed("overwrite", _FILES),
    _deed("unlink", _FILES),
    _deed("rename", st.one_of(_FILES, _FOLDERS)),
    _deed("create", _FOLDERS),
    _deed("touch", _FILES),
    _deed("chmod_canary", st.one_of(_FILES, _FOLDERS)),
    _deed("remount", _FOLDERS),
    _deed("daemon", _FILES, st.just(20.0)),
    _deed("lock", st.just("@lock")),
)
_THEFTS = st.one_of(
    _deed("steal", _FILES, _INTO),
    _deed("steal", _FILES, _INTO),
    _deed("steal_all", st.sampled_from(["@home/**/*", "@home/.*/*", "@state/*", "@zone/*/*", "/proc/*/fd/*"]), _INTO),
    _deed("environment", _INTO),
    _deed("descriptors", _INTO),
    _deed("roots", _FILES, _INTO),
    _deed("connect", st.just("#port")),
    _deed("connect_unix", st.just("@socket")),
)
_ENDS = st.one_of(
    _deed("kill_parent"),
    _deed("kill_all"),
    _deed("stop_parent"),
    _deed("exit", st.sampled_from([0, 1, 255])),
    _deed("leave", st.sampled_from([0, 3])),
    _deed("abort"),
    _deed("close_all"),
    _deed("mute"),
    _deed("flood", st.sampled_from([1, 64])),
    _deed("say", _TEXTS),
    _deed("sleep", st.sampled_from([0.01, 0.3])),
)


# -- journals: what comes back from an interpreter that hostile code has taken over ------------------------------------

_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 1 << 80), st.floats(), st.text(max_size=8),
    st.sampled_from(["tests/test_ops.py::test_add", "@file", "passed", "failed", "call", {}, [], [[1, 2]], [[1]], {"x": {}}]),
)  # fmt: skip
_KINDS = (
    "collected", "report", "ended", "left", "executed", "coverage", "imported", "mutant", "collecting",
    "collect-error", "start", "finish", "interrupted", "nothing",
)  # fmt: skip
_FIELDS = (
    "id", "position", "file", "function", "owner", "rows", "outcome", "message", "duration", "when", "kind", "what",
    "lines", "branches", "modules", "line", "operator", "killers", "status", "nonce", "token", "seq",
)  # fmt: skip
_WHOLE: dict[str, Word | dict[str, object]] = {
    "id": "tests/test_ops.py::test_add", "position": 0, "file": "%test", "function": "test_add", "outcome": "passed",
    "message": "", "duration": 0.1, "when": "call", "status": 0,
}  # fmt: skip
_EVENTS = st.builds(
    lambda kind, whole, odd: {"event": kind, **(_WHOLE if whole else {}), **odd},
    st.sampled_from(_KINDS), st.booleans(), st.dictionaries(st.sampled_from(_FIELDS), _ODD, max_size=4),
)  # fmt: skip
_CASES = st.fixed_dictionaries(
    {
        "target": st.one_of(st.just("half"), _ODD), "receiver": st.one_of(st.just(""), _ODD),
        "call": st.one_of(st.just({"template": "half({args})", "arguments": [{"name": "n", "source": "4", "style": "positional"}], "statement": False}), _ODD),
        "history": st.one_of(st.just([]), _ODD), "raises": st.one_of(st.just(""), _ODD), "message": st.just(""),
        "assertions": st.one_of(st.just([{"how": "equal", "subject": "{result}", "expected": "2"}]), _ODD),
        "imports": st.one_of(st.just([]), st.just([["os", "import os"]]), _ODD), "features": st.one_of(st.just(["1"]), _ODD),
    }
)  # fmt: skip
_RAW = st.sampled_from(
    [
        "", "null\n", "[]\n", "3\n", '"x"\n', "{}\n", '{"event": []}\n', '{"event": {}}\n', '{"event": null}\n',
        "[" * 100_000 + "\n", '{"a":' * 50_000 + "\n", "9" * 10_000 + "\n", "1e999\n", "NaN\n", "\udcff\n", "\0\n",
        '{"reason": {}}\n', '{"reason": 3}\n', "[99999999]\n", "[-1]\n", '["x"]\n', "[true]\n", "[0, 0, 0]\n", "\ufeff[0]\n",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What takes the place of one thing that an interpreter gives back."""

    #: ``text``, ``events``, ``cases``, ``link``, ``fifo``, ``folder``, ``sparse``, ``long``, ``socket``, ``nothing``.
    how: str
    #: The text, the events, the link's target.
    what: object = ""


ANSWERS = st.one_of(
    st.builds(Answer, st.just("events"), st.lists(_EVENTS, max_size=8)),
    st.builds(Answer, st.just("events"), st.lists(_EVENTS, max_size=8)),
    st.builds(Answer, st.just("cases"), st.lists(_CASES, min_size=1, max_size=4)),
    st.builds(Answer, st.just("text"), _RAW),
    st.builds(Answer, st.just("text"), _RAW),
    st.builds(Answer, st.just("text"), st.text(max_size=40)),
    st.builds(Answer, st.just("link"), _TARGETS),
    st.builds(Answer, st.sampled_from(["fifo", "folder", "sparse", "long", "socket", "nothing", "flood"])),
)


def _lines(events: list[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(event)}\n" for event in events)


_FORGERIES = st.one_of(
    _deed("forge", st.lists(_EVENTS, min_size=1, max_size=4).map(_lines)),
    _deed("forge", _RAW.map(lambda text: text[:5000])),
    _deed("usurp", st.sampled_from(["fifo", "link", "folder", "sparse"]), _TARGETS),
)


# Mostly one that ends nothing: what comes after an end is not tried.
DEEDS = st.lists(st.one_of(_SWAPS, _SWAPS, _REACHES, _THEFTS, _THEFTS, _FORGERIES, _ENDS), min_size=1, max_size=4).map(
    tuple
)
#: Stage -> when a project's code acts in it: when it is imported, called, collected, tested, ends, is built.
MOMENTS = {
    "acceptance": ("import", "call", "configure", "test", "finish", "late", "candidate"),
    "refactoring": ("import", "call", "configure", "test", "finish", "late"),
    "build": ("backend", "built"),
    "deployment": ("import",),
    "run": ("import", "call", "configure", "test", "finish", "late", "backend", "built"),
}


@dataclass(frozen=True)
class Project:
    """A component, and what its code does at which moment."""

    nodes: tuple[Deed, ...]
    configurations: Mapping[str, str]
    deeds: Mapping[str, tuple[Deed, ...]]
    #: Where its new tests want to go.
    candidate: str = "tests/test_gen.py"
    #: How it is built: ``backend``, ``setuptools``, ``hatchling``, ``plain``.
    builder: str = "backend"
    wheel: Wheel | None = None


# -- wheels ------------------------------------------------------------------------------------------------------------

_ENTRY_NAMES = st.one_of(
    st.sampled_from(
        [
            "calc/extra.py", "x.pth", "../evil.py", "../../../../evil.py", "@folder/owned", "/owned", "calc/../../evil.py",
            "calc-1.0.data/scripts/calc", "calc-1.0.data/scripts/../../../evil", "calc-1.0.data/data/bin/python",
            "calc-1.0.data/data/pyvenv.cfg", "calc-1.0.data/data/tta-release.json", "calc-1.0.data/data/../../current",
            "calc-1.0.data/data/@folder/owned", "calc-1.0.data/purelib/sitecustomize.py", "calc-1.0.data/headers/../../x",
            "calc-1.0.dist-info/RECORD", "calc-1.0.dist-info/entry_points.txt", "C:\\evil", "calc\\..\\..\\evil", "a\nb",
            "sitecustomize.py", "pip/__init__.py", "calc", "calc/", "", ".", "..",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
_ENTRY = st.tuples(
    _ENTRY_NAMES,
    st.one_of(
        st.sampled_from(["", "import os\n", "bomb", "[console_scripts]\n../../evil = calc:x\npython = calc.ops:half\n", "home = @folder\n", '{"version": 1}']),
        _TARGETS,
    ),
    st.sampled_from(["file", "file", "file", "link", "folder", "fifo", "device", "setuid"]),
)  # fmt: skip


@dataclass(frozen=True)
class Wheel:
    """A wheel, entry by entry."""

    #: Name, content, what it says it is.
    entries: tuple[tuple[str, str, str], ...]
    #: What METADATA and WHEEL say: ``right``, or another word.
    metadata: str = "right"
    #: What is at the wheel's place: ``file``, ``link``, ``fifo``, ``folder``, ``sparse``, ``two``, ``none``, ``cut``.
    door: str = "file"
    target: str = "@file"
    name: str = "calc-1.0-py3-none-any.whl"


WHEELS = st.builds(
    Wheel,
    st.one_of(st.just(()), st.just(()), st.lists(_ENTRY, max_size=4).map(tuple)),
    st.sampled_from(["right"] * 18 + ["other-name", "other-version", "none", "empty", "path", "requires", "long", "two"]),
    st.sampled_from(["file"] * 24 + ["link", "fifo", "folder", "sparse", "two", "none", "cut", "garbage", "zero"]),
    _TARGETS,
    st.sampled_from(["calc-1.0-py3-none-any.whl"] * 15 + ["calc.whl", "evil-9-py3-none-any.whl", "calc-1.0-cp27-cp27-win32.whl", "-e.whl"]),
)  # fmt: skip


def projects(stage: str) -> SearchStrategy[Project]:
    """Projects whose code acts in a stage."""
    moments = st.sampled_from(MOMENTS[stage])
    return st.builds(
        Project,
        st.one_of(st.just(()), st.lists(_NODES, max_size=3).map(tuple)),
        st.one_of(st.just({}), CONFIGURATIONS),
        st.dictionaries(moments, DEEDS, min_size=1, max_size=3),
        st.sampled_from(["tests/test_gen.py"] * 8 + ["../x.py", "@file", "tests/../../x.py", "tests/a/test_gen.py"]),
        st.sampled_from(["backend"] * 6 + ["setuptools", "hatchling"]),
        WHEELS,
    )


# -- archives ----------------------------------------------------------------------------------------------------------

_MEMBER_NAMES = st.one_of(
    st.sampled_from(["a", "b", "c", "d/e", "d/f", "g/h/i", "link"]),
    st.sampled_from(["a", "b", "c", "d/e", "d/f", "g/h/i", "link"]),
    st.sampled_from(
        [
            "a", "a/b", "a/b/c", "b", "link", "link/x", "../x", "a/../../x", "/abs", "@folder/owned", "a//b", "./a", "a/",
            ".git/config", ".tta/stack.json", "d/" * 99 + "f", "d/" * 200 + "f", "n" * 300, "a\nb", "\udcff", "\u202e", ".",
        ]
    ),
    st.text(max_size=8),
)  # fmt: skip
Member = tuple[str, str, str, int]


@dataclass(frozen=True)
class Archive:
    """A tar, member by member, and what is done to its bytes."""

    #: Name, kind, link target, size.
    members: tuple[Member, ...]
    #: ``pax``, ``gnu``, ``ustar``.
    format: str = "pax"
    #: ``gzip``, ``plain``, ``xz``, ``cut``, ``flipped``, ``twice``, ``bomb``, ``trailing``.
    wrapping: str = "gzip"
    at: int = 0


_MEMBERS = st.tuples(
    _MEMBER_NAMES,
    st.sampled_from(
        ["file"] * 9 + ["link"] * 3 + ["hard", "folder", "fifo", "char", "block", "sparse", "contiguous", "weird"]
    ),
    st.one_of(_TARGETS, st.sampled_from(["a", "../x", "link", "a/b", "link/../..", "@file"])),
    st.sampled_from([0, 1, 5, 4096] * 3 + [-1, 1 << 33]),
)
_ODD_ARCHIVES = st.builds(
    Archive,
    st.lists(_MEMBERS, max_size=6).map(tuple),
    st.sampled_from(["pax", "gnu", "ustar"]),
    st.sampled_from(["gzip"] * 14 + ["plain", "xz", "cut", "flipped", "twice", "bomb", "trailing"]),
    st.integers(0, 4096),
)  # fmt: skip


_FORMATS = st.sampled_from(["pax", "gnu", "ustar"])
_GOOD_MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d/e", "d/f", "g/h/i", "j k", "l\u00e4"]),
        st.sampled_from(["file", "file", "link"]),
        st.sampled_from(["a", "b", "nowhere", "../d/e"]),
        st.sampled_from([0, 1, 5, 4096]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda member: member[0],
).map(tuple)
# Such as are unpacked, such as are but for one member, and such as are anything.
ARCHIVES = st.one_of(
    st.builds(Archive, _GOOD_MEMBERS, _FORMATS),
    st.builds(Archive, st.tuples(_GOOD_MEMBERS, _MEMBERS).map(lambda both: (*both[0], both[1])), _FORMATS),
    _ODD_ARCHIVES,
)


# -- patches -----------------------------------------------------------------------------------------------------------

_PATCH_PATHS = st.one_of(
    st.sampled_from(["src/calc/ops.py", "src/calc/new.py", "tests/test_gen.py", "README.md", "d/new.py"]),
    st.sampled_from(["src/calc/ops.py", "src/calc/new.py", "tests/test_gen.py", "README.md", "d/new.py"]),
    st.sampled_from(
        [
            "src/calc/ops.py", "src/calc/new.py", "tests/test_ops.py", "../x.py", "/abs", "@file", "@folder/owned", ".git/config",
            ".GIT/config", ".tta/targets.toml", "a/../../x", "link/x.py", "src/calc/ops.py/x", "a\tb", "a b", '"\\303\\277"', "",
            "src//calc", "d/" * 120 + "x", ".gitattributes", "\udcff", "dev/null",
        ]
    ),
    st.text(max_size=8),
)  # fmt: skip


@dataclass(frozen=True)
class Hunk:
    """A change of one file in a patch."""

    path: str
    other: str
    #: ``new``, ``edit``, ``delete``, ``mode``, ``link``, ``submodule``, ``rename``, ``copy``, ``binary``, ``delta``, ``huge``, ``raw``.
    how: str
    text: str


_GOOD_PATHS = st.sampled_from(["src/calc/new.py", "tests/test_gen.py", "d/new.py", "src/calc/ops.py", "README.md"])
_GOOD_HUNKS = st.lists(
    st.one_of(
        st.builds(Hunk, _GOOD_PATHS, st.just(""), st.just("new"), _TARGETS),
        st.builds(Hunk, st.just("src/calc/ops.py"), st.just(""), st.sampled_from(["edit", "mode"]), _TARGETS),
        st.builds(Hunk, st.just("README.md"), st.just(""), st.just("delete"), st.just("")),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda hunk: hunk.path,
).map(tuple)
_ODD_HUNKS = st.lists(
    st.builds(
        Hunk,
        _PATCH_PATHS,
        _PATCH_PATHS,
        st.sampled_from(
            ["new"] * 5
            + ["edit"] * 3
            + ["delete", "mode", "link", "link", "submodule", "rename", "copy", "binary", "delta", "huge", "raw"]
        ),
        st.one_of(st.text(max_size=20), _TARGETS),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
PATCHES = st.tuples(st.one_of(_GOOD_HUNKS, _ODD_HUNKS), st.one_of(st.just(()), NODES))  # fmt: skip
TREES = st.tuples(NODES, CONFIGURATIONS)
JOURNALS = st.tuples(
    st.lists(st.tuples(st.sampled_from(["journal", "descriptor", "done.json", "kept.jsonl", "failed.json", "held.json", "stdout"]), ANSWERS), min_size=1, max_size=5).map(tuple),
    st.sampled_from([0, 0, 1, 5, 139]),
    st.sampled_from(["suite", "suite", "suite", "isolate", "isolate", "mutate", "imports", "search"]),
)  # fmt: skip
