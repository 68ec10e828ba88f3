"""The door to folders where foreign code has run: nothing beyond them is read or written, nothing makes us wait."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tta_tasks.foreign import ForeignTree, Refused


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file outside the tree that nothing may read or write."""
    path = tmp_path / "outside" / "canary"
    path.parent.mkdir()
    path.write_text("canary")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> ForeignTree:
    """A tree with a module in a package."""
    root = tmp_path / "tree"
    (root / "package").mkdir(parents=True)
    (root / "package" / "module.py").write_text("VALUE = 1\n")
    return ForeignTree(root)


def test_reads_and_writes_regular_files(tree: ForeignTree) -> None:
    """As any folder, by relative and absolute names; what a file was allowed to do it still is."""
    (tree.root / "package" / "module.py").chmod(0o755)
    tree.write_text("package/module.py", "VALUE = 2\n")
    assert tree.read_text(tree.root / "package" / "module.py") == "VALUE = 2\n"
    assert (tree.root / "package" / "module.py").stat().st_mode & 0o777 == 0o755
    tree.write_bytes("new/folder/file", b"\0")
    assert [found.path for found in tree.walk()] == ["new/folder/file", "package/module.py"]
    assert [found.path for found in tree.files("*.py")] == ["package/module.py"]
    tree.remove("new")
    tree.remove("new")
    assert not tree.exists("new")


def test_the_tree_is_a_folder_of_its_own(tree: ForeignTree) -> None:
    """Asked about itself, by any name."""
    assert tree.is_folder(".")
    assert tree.is_folder(tree.root)
    assert not tree.exists("..")


def test_writes_in_place_of_a_link(tree: ForeignTree, canary: Path) -> None:
    """A module that a test has replaced by a link becomes a module again; where the link led stays as it was."""
    module = tree.root / "package" / "module.py"
    module.unlink()
    module.symlink_to(canary)
    with pytest.raises(OSError, match=r"Too many levels|symbolic"):
        tree.read_bytes("package/module.py")
    assert not tree.is_file("package/module.py")
    tree.write_text("package/module.py", "VALUE = 3\n")
    assert canary.read_text() == "canary"
    assert not module.is_symlink()
    assert module.read_text() == "VALUE = 3\n"


@pytest.mark.parametrize("deed", ["read", "write", "remove", "make_folder", "walk"])
def test_goes_through_no_link(tree: ForeignTree, canary: Path, deed: str) -> None:
    """A folder that has become a link is no way out, for whatever is to be done below it."""
    (tree.root / "away").symlink_to(canary.parent)
    deeds: dict[str, Callable[[], object]] = {
        "read": lambda: tree.read_bytes("away/canary"),
        "write": lambda: tree.write_bytes("away/canary", b"overwritten"),
        "remove": lambda: tree.remove("away/canary"),
        "make_folder": lambda: tree.make_folder("away/more"),
        "walk": lambda: list(tree.walk("away")),
    }
    with pytest.raises(OSError, match=r"."):
        deeds[deed]()
    assert [path.name for path in canary.parent.iterdir()] == ["canary"]
    assert canary.read_text() == "canary"


def test_the_tree_itself_is_no_link(tmp_path: Path, canary: Path) -> None:
    """A root that was replaced by a link is not entered."""
    (tmp_path / "root").symlink_to(canary.parent)
    with pytest.raises(OSError, match=r"."):
        ForeignTree(tmp_path / "root").read_bytes("canary")


@pytest.mark.parametrize("path", ["../outside/canary", "package/../../outside/canary", "/etc/passwd", ".", "", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(tree: ForeignTree, path: str) -> None:
    """Whatever a name says."""
    with pytest.raises(Refused):
        tree.read_bytes(path)
    with pytest.raises(Refused):
        tree.write_bytes(path, b"")


def test_opens_regular_files_only_and_never_waits(tree: ForeignTree) -> None:
    """A pipe without a writer, a socket and a folder are refused at once."""
    os.mkfifo(tree.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree.root / "socket"))
        for name in ("pipe", "socket", "package"):
            with pytest.raises(OSError, match=r"."):
                tree.read_bytes(name)
    assert [found.path for found in tree.files()] == ["package/module.py"]


def test_reads_no_more_than_told(tree: ForeignTree) -> None:
    """A file of 10 GB without a byte on the disk is refused after the bound."""
    with (tree.root / "large").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(Refused, match="more than 1,000 bytes"):
        tree.read_bytes("large", max_bytes=1000)


def test_json_has_the_shape_that_was_asked_for(tree: ForeignTree) -> None:
    """Another shape is refused like a file that cannot be read."""
    shape = TypeAdapter(list[int])
    tree.write_text("numbers.json", "[1, 2]")
    assert tree.read_json("numbers.json", shape) == [1, 2]
    for text in ('{"a": 1}', '["x"]', "[", "[[[1]]]"):
        tree.write_text("numbers.json", text)
        with pytest.raises(Refused, match="another shape"):
            tree.read_json("numbers.json", shape)


def test_walks_within_bounds(tree: ForeignTree) -> None:
    """Too many files, and folders without bottom, are refused; a circle of links is none."""
    (tree.root / "package" / "again").symlink_to(tree.root)
    assert len(list(tree.walk())) == 2
    for number in range(20):
        (tree.root / f"file{number}").touch()
    with pytest.raises(Refused, match="too many"):
        list(tree.walk(max_entries=10))
    deep = tree.root
    for _ in range(30):
        deep /= "d"
    deep.mkdir(parents=True)
    with pytest.raises(Refused, match="too deeply"):
        list(tree.walk(max_depth=20))


def test_a_copy_holds_files_and_links_alone(tree: ForeignTree, canary: Path, tmp_path: Path) -> None:
    """Links are copied as links, pipes stay behind, and more bytes than allowed are refused."""
    (tree.root / "link").symlink_to(canary)
    os.mkfifo(tree.root / "pipe")
    (tree.root / "package" / "module.py").chmod(0o755)
    tree.copy_to(tmp_path / "copy", max_bytes=1000)
    copied = ForeignTree(tmp_path / "copy")
    assert sorted(found.path for found in copied.walk()) == ["link", "package/module.py"]
    assert copied.link_target("link") == str(canary)
    assert os.access(tmp_path / "copy" / "package" / "module.py", os.X_OK)
    with pytest.raises(Refused, match="more than"):
        tree.copy_to(tmp_path / "small", max_bytes=5)


def test_a_copy_has_a_bound_of_its_own(tree: ForeignTree, tmp_path: Path, dig: Callable[[Path], None]) -> None:
    """A file without a byte on the disk, and folders without bottom, are not copied to the end."""
    with (tree.root / "large").open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(Refused, match="more than"):
        tree.copy_to(tmp_path / "copy", max_bytes=1000)
    (tree.root / "large").unlink()
    with pytest.raises(Refused, match="too many"):
        tree.copy_to(tmp_path / "fewer", max_bytes=1000, max_entries=1)
    dig(tree.root)
    with pytest.raises(Refused, match="too deeply"):
        tree.copy_to(tmp_path / "deep", max_bytes=1000)


def test_removes_however_deep_and_forbidden(tree: ForeignTree, canary: Path, dig: Callable[[Path], None]) -> None:
    """Folders that no path can name, and those that took their own permissions away; what links lead to keeps its."""
    dig(tree.root / "package")
    forbidden = tree.root / "package" / "forbidden"
    (forbidden / "inner").mkdir(parents=True)
    (forbidden / "inner" / "file").touch()
    (forbidden / "away").symlink_to(canary.parent)
    (forbidden / "inner").chmod(0)
    forbidden.chmod(0o500)
    canary.parent.chmod(0o500)
    tree.remove("package")
    assert not list(tree.root.iterdir())
    assert canary.parent.stat().st_mode & 0o777 == 0o500
    canary.parent.chmod(0o700)
    assert canary.read_text() == "canary"


def test_removes_what_is_empty_alone(tree: ForeignTree) -> None:
    """A folder, and those above it up to the first that holds something."""
    (tree.root / "package" / "a" / "b").mkdir(parents=True)
    tree.remove_if_empty("package/a/b")
    assert [path.name for path in (tree.root / "package").iterdir()] == ["module.py"]
    tree.remove_if_empty("package/module.py")
    assert tree.is_file("package/module.py")


def test_skips_what_it_is_told_to(tree: ForeignTree) -> None:
    """What is skipped is not looked into, and does not count."""
    for number in range(20):
        (tree.root / "skipped" / f"{number}").mkdir(parents=True)
    walked = tree.walk(max_entries=2, skip=lambda path, is_folder: is_folder and path == "skipped")
    assert [found.path for found in walked] == ["package/module.py"]


def test_removes_a_folder_and_not_where_its_links_lead(tree: ForeignTree, canary: Path) -> None:
    """Nor a link's target, when the link itself is removed."""
    (tree.root / "package" / "away").symlink_to(canary.parent)
    (tree.root / "link").symlink_to(canary)
    tree.remove("package")
    tree.remove("link")
    assert canary.read_text() == "canary"
    assert not list(tree.walk())
