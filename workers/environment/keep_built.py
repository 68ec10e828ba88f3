"""Leaves of an installed project only what its tree has not: metadata, extension modules and generated files.

Run as a script by the environment's own interpreter, in the sandbox: ``python -I keep_built.py NAME ROOT...``. The
tree's own files come by ``PYTHONPATH``; were they here as well, a module that was removed would still be found.
Works with every Python that pytest works with, and with the standard library only.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
#: Where what is kept goes: a folder that is not on the path itself, or its parts of packages would hide the tree's.
KEPT = SITE / "_tta_built"
FINDER = '''\
"""Finds the built parts of the component's packages, where the tree has none of that name."""

import os
import sys
from importlib.machinery import PathFinder

BUILT = os.path.join(os.path.dirname(__file__), "_tta_built")


class BuiltFinder:
    """Comes last, so that whatever is in the tree wins."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, [os.path.join(BUILT, *name.split(".")[:-1])])
        return spec if spec and spec.loader else None


sys.meta_path.append(BuiltFinder)
'''


def main(name: str, roots: list[Path]) -> None:
    """Sort the files of the distribution of that name."""
    distribution = next(iter(importlib.metadata.distributions(name=name, path=[str(SITE)])), None)
    if distribution is None or _needed(distribution):
        return
    files = distribution.files or ()  # read once: from Python 3.12 on it leaves out what is no longer there
    for file in files:
        path = SITE / file
        if file.parts[0] == ".." or file.parts[0].endswith((".dist-info", ".pth")) or not path.is_file():
            continue
        if file.suffix == ".pyc" or any((root / file).exists() for root in roots):
            path.unlink()
        else:
            (KEPT / file).parent.mkdir(parents=True, exist_ok=True)
            path.rename(KEPT / file)
    for top in {file.parts[0] for file in files if len(file.parts) > 1}:
        if top != ".." and not top.endswith(".dist-info"):
            _remove_empty(SITE / top)
    if KEPT.is_dir():
        (SITE / "_tta_built_finder.py").write_text(FINDER, encoding="utf-8")
        (SITE / "_tta_built.pth").write_text("import _tta_built_finder\n", encoding="utf-8")


def _needed(distribution: importlib.metadata.Distribution) -> bool:
    """Whether something else here needs it, as pytest needs ``packaging``; it must then stay whole."""
    name = _normal(distribution.metadata["Name"])
    others = importlib.metadata.distributions(path=[str(SITE)])
    requirements = (
        word for other in others if _normal(other.metadata["Name"]) != name for word in other.requires or ()
    )
    needed = (re.split(r"[^A-Za-z0-9._-]", word, maxsplit=1)[0] for word in requirements if "extra ==" not in word)
    return any(_normal(word) == name for word in needed)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _remove_empty(folder: Path) -> None:
    """Remove ``folder``, with bytecode, where no file is left in it."""
    for entry in list(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            _remove_empty(entry)
        elif entry.suffix == ".pyc":
            entry.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


if __name__ == "__main__":
    main(sys.argv[1], [Path(root) for root in sys.argv[2:]])
