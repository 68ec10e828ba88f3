"""What agents and a component's code may leave in a tree: nothing of the host is read, written or waited for."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tta_tasks.errors import EngineFailed, SandboxError
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Component, Module
from tta_tasks.protocols import Limits, Workspace
from tta_tasks.settings import settings
from workers.component.api_compat import api_breakages
from workers.component.copies import fresh_copy
from workers.openhands.conversations import Conversation, prune
from workers.openhands.shell import Shell
from workers.openhands.supervision import changed
from workers.sandbox import detect_sandbox

COMPONENT = Component(name="demo", modules=(Module(name="demo", path="demo.py"),))
SOURCE = "def f(a, b=1):\n    return a\n"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A Python file outside every tree."""
    path = tmp_path / "outside" / "canary.py"
    path.parent.mkdir()
    path.write_text("canary = 1\n")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a module."""
    root = tmp_path / "work" / "tree"
    root.mkdir(parents=True)
    (root / "demo.py").write_text(SOURCE)
    return root


def workspace(root: Path) -> Workspace:
    """The component in a tree."""
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    limits = Limits(wall_s=60, memory_bytes=2 << 30)
    return Workspace(root, COMPONENT, Path(sys.executable), detect_sandbox(), scratch, limits=limits)


Dig = Callable[[Path], None]


def lengthen(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes, none of them on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def listen(path: Path) -> None:
    """Leave a socket."""
    descriptor = os.open(path.parent, os.O_DIRECTORY)  # its name would be too long
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    os.close(descriptor)


def fill(tree: Path, canary: Path) -> None:
    """All that is no source file under the name of one, and names that no line can hold."""
    (tree / "link.py").symlink_to(canary)
    (tree / "relative.py").symlink_to("../../outside/canary.py")
    (tree / "zero.py").symlink_to("/dev/zero")
    (tree / "circle.py").symlink_to("circle.py")
    (tree / "away").symlink_to(canary.parent)
    (tree / "folder.py").mkdir()
    os.mkfifo(tree / "pipe.py")
    listen(tree / "socket.py")
    lengthen(tree / "large.py", 1 << 40)
    (tree / os.fsdecode(b"new\nli\xffne.py")).write_text("odd = 1\n")
    (tree / "new.py").write_text("new = 1\n")


# -- an agent's tree --------------------------------------------------------------------------------------------------


def test_an_agents_files_are_regular_files(tree: Path, canary: Path, tmp_path: Path) -> None:
    """Of all that an agent left under the name of source, the small regular files are taken."""
    before = tmp_path / "before"
    before.mkdir()
    os.mkfifo(before / "new.py")  # tests have run there, too
    (before / "demo.py").symlink_to("/dev/zero")
    fill(tree, canary)
    found = changed(before, tree, ["."])
    assert found == {
        "demo.py": SOURCE.encode(), "new.py": b"new = 1\n", os.fsdecode(b"new\nli\xffne.py"): b"odd = 1\n",
    }  # fmt: skip
    assert changed(before, tree, ["new.py", "link.py", "pipe.py", "away", "away/canary.py", "gone.py"]) == {
        "new.py": b"new = 1\n"
    }


@pytest.mark.slow
def test_an_agents_tree_without_bottom_is_given_up(tree: Path, tmp_path: Path, dig: Dig) -> None:
    """Neither recursion nor time: the engine gives up, and says why."""
    dig(tree)
    with pytest.raises(EngineFailed, match="too deeply"):
        changed(tmp_path, tree, ["."])


def test_an_agents_flood_is_given_up(tree: Path, tmp_path: Path) -> None:
    """More than a person would read in a year is not taken, file by small file, either."""
    for number in range(40):
        lengthen(tree / f"m{number}.py", 1 << 20)
    with pytest.raises(EngineFailed, match="more than 33,554,432 bytes"):
        changed(tmp_path, tree, ["."])


def test_an_agent_begins_on_a_copy(
    tree: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dig: Dig
) -> None:
    """Links are copied as links, pipes and sockets not at all; too much of a tree ends the engine's attempt."""
    home = tmp_path / "home"
    talk = Conversation(home, "id")
    fill(tree, canary)
    monkeypatch.setenv("TTA_MAX_SNAPSHOT_BYTES", str(1 << 20))
    settings.cache_clear()
    with pytest.raises(EngineFailed, match="more than may be copied"):
        talk.begin(tree)
    (tree / "large.py").unlink()
    talk.begin(tree)
    assert (talk.tree / "link.py").readlink() == canary
    assert not (talk.tree / "pipe.py").exists()
    assert not (talk.tree / "socket.py").exists()
    assert (talk.tree / "new.py").read_text() == "new = 1\n"
    ForeignTree(home).remove("tree")
    dig(tree)
    with pytest.raises(EngineFailed, match="too deeply"):
        talk.begin(tree)


def test_old_conversations_go_whatever_they_hold(tmp_path: Path, dig: Dig) -> None:
    """A tree without bottom, and a file of a terabyte that has not a byte, neither stay nor make others go."""
    parent = tmp_path / "conversations"
    for age, name in enumerate(("deep", "large", "new")):
        (parent / name).mkdir(parents=True)
        if name == "deep":
            dig(parent / name)
        if name == "large":
            lengthen(parent / name / "file", 1 << 40)
        os.utime(parent / name, (10**9 + age, 10**9 + age))
    assert prune(parent, 1e10, 1 << 20) == 0
    assert prune(parent, 1e10, (1 << 20) - 1) in {0, 1}
    assert prune(parent, 0, 1 << 20) >= 2
    assert not [path for path in parent.iterdir() if path.is_dir()]


def shell(tree: Path, writable: Path) -> Shell:
    """A shell for an agent's commands."""
    notes = tree.parent / "notes"
    notes.mkdir(exist_ok=True)
    return Shell(
        sandbox=detect_sandbox(), tree=tree, project=tree, writable=(writable,), notes=notes,
        python=Path(sys.executable), env={}, limits=Limits(wall_s=60),
    )  # fmt: skip


def test_a_shell_opens_no_link_for_writing(tree: Path, canary: Path) -> None:
    """A folder of the tree that has become a link is not opened to the next command; the agent is told."""
    (tree / "package").mkdir()
    agents = shell(tree, tree / "package")
    assert agents.answer("echo hello", None)["exit_code"] == 0
    (tree / "package").rmdir()
    (tree / "package").symlink_to(canary.parent)
    with pytest.raises(SandboxError, match="package in the agent's tree is no file or folder any more"):
        agents.run("echo overwritten > package/canary.py")
    assert agents.answer("true", None)["exit_code"] == 126
    assert canary.read_text() == "canary = 1\n"


@pytest.mark.parametrize(
    "leave",
    [
        lambda note, _canary: note.mkdir(),
        lambda note, _canary: os.mkfifo(note),
        lambda note, canary: note.symlink_to(canary),
    ],
    ids=["folder", "pipe", "link"],
)
def test_a_shells_notes_are_forgotten_whatever_they_are(
    tree: Path, canary: Path, leave: Callable[[Path, Path], object]
) -> None:
    """A command can write where they are; what it puts in their place goes, and not what that leads to."""
    agents = shell(tree, tree)
    leave(agents.notes / "folder", canary)
    agents.reset()
    assert not list(agents.notes.iterdir())
    assert canary.read_text() == "canary = 1\n"


# -- copies -----------------------------------------------------------------------------------------------------------


def test_code_in_a_copy_reaches_no_other_tree(tree: Path, dig: Dig) -> None:
    """What runs in one can name the others, and the tree they came from, and write to none of them."""
    program = "import os, sys\nfor path in sys.argv[1:]:\n    try:\n        open(path, 'w').write('planted')\n"
    program += "    except OSError:\n        pass\n"
    original = workspace(tree)
    with fresh_copy(original, {"demo.py": b"x = 1\n"}) as one, fresh_copy(original) as two:
        if one.sandbox.level == "process-group":
            pytest.skip("code may write wherever its user may at this level")
        done = one.run_python("-c", program, *(work.root / "demo.py" for work in (original, one, two)))
        assert done.ok
        assert (one.root / "demo.py").read_text() == "planted"
        assert (two.root / "demo.py").read_text() == SOURCE
        dig(one.scratch)
    assert (tree / "demo.py").read_text() == SOURCE
    assert not list((tree.parent / "copies").iterdir())


# -- comparing the public API -----------------------------------------------------------------------------------------


def changed_to(tree: Path, files: dict[str, str]) -> Workspace:
    """Another tree of the component, of ``files``."""
    root = tree.parent / "after" / "tree"
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name).write_text(text)
    return workspace(root)


def test_the_public_api_is_read_in_the_tree_alone(tree: Path, canary: Path) -> None:
    """A file that names another folder of modules is not followed."""
    (canary.parent / "demo.py").write_text("def f(a, b=2): ...\n")
    after = changed_to(tree, {"away.pth": f"{canary.parent}\n"})
    assert api_breakages(workspace(tree), after) == ("demo: can no longer be read",)


@pytest.mark.parametrize(
    "source",
    [
        f"x = a{'.a' * 30_000}\n",
        f"x = {'[' * 150}{']' * 150}\n" + f"y = {'-' * 50_000}1\n",
        "x: " + "a | " * 30_000 + "b\n",
    ],
    ids=["attributes", "nested", "annotation"],
)
def test_a_source_that_overwhelms_the_comparison(tree: Path, source: str) -> None:
    """It costs its process, not the worker; what cannot be compared is not taken for unchanged."""
    after = changed_to(tree, {"demo.py": source})
    (said,) = api_breakages(workspace(tree), after)
    assert said.startswith(
        ("it cannot be compared: ", "demo: can no longer be read", "demo.f: public object was removed")
    )
