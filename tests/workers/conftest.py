"""What tests of workers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tta_tasks import plugins
from tta_tasks.models import Component, Module
from tta_tasks.protocols import Limits, Workspace
from workers.sandbox import detect_sandbox


@pytest.fixture
def words_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gate ``words`` of another package is installed."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "installed")
    plugins._found.cache_clear()
    yield
    plugins._found.cache_clear()


@pytest.fixture
def make(tmp_path: Path, component_python: Path, ops: str) -> Callable[..., Workspace]:
    """Makes a workspace of a component ``calc`` with ``ops`` and the given files in it."""

    def workspace(files: dict[str, str], *, wall_s: float = 60) -> Workspace:
        for name, text in {"src/calc/__init__.py": "", "src/calc/ops.py": ops, **files}.items():
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "scratch").mkdir()
        names = sorted(path.stem for path in (tmp_path / "tree/src/calc").glob("*.py") if path.stem != "__init__")
        return Workspace(
            root=tmp_path / "tree",
            component=Component(
                name="calc",
                import_root="src",
                modules=tuple(Module(name=f"calc.{name}", path=f"src/calc/{name}.py") for name in names),
            ),
            python=component_python,
            sandbox=detect_sandbox(),
            scratch=tmp_path / "scratch",
            readable=(component_python.parents[1],),
            limits=Limits(wall_s=wall_s, processes=4096),
        )

    return workspace
