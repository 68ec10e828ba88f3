"""Whether a release works: before it is put into use, and after."""

from __future__ import annotations

import configparser
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tta_tasks.errors import SandboxError
from tta_tasks.models import Check, Component, Model
from tta_tasks.protocols import Limits, Sandbox

#: Seconds that one smoke check may take.
SMOKE_S = 60.0
#: Characters of output shown of a failed check.
MAX_SAID = 1000


class Health(Model):
    """How to ask a release that is in use whether it works: by a command or by a URL."""

    #: Status 0 is well. ``{python}``, ``{bin}`` and ``{release}`` stand for paths in the release.
    command: tuple[str, ...] = ()
    #: An answer of 200 to 299 is well; asked until it is, or time is up.
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    timeout_s: float = Field(default=30.0, gt=0)
    interval_s: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("name either a command or a url")
        return self


@dataclass(frozen=True)
class Installed:
    """A release on disk."""

    #: Its virtual environment.
    folder: Path
    component: Component
    sandbox: Sandbox

    @property
    def wheel(self) -> Path:
        """The wheel it was made of."""
        return next(self.folder.glob("*.whl"))

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / "bin"

    def smoke(self, command: Sequence[str], *, scripts: bool) -> Iterator[Check]:
        """Checks that need nothing but the release; by default, that it can be imported. No network.

        Args:
            command: The operator's own check instead.
            scripts: Whether to ask each of its programs for ``--help``.
        """
        if command:
            yield self._asked("smoke", _filled(command, self._paths), SMOKE_S)
        elif tops := self._top_level():
            program = "; ".join(f"import {top}" for top in tops)
            yield self._asked(f"import {', '.join(tops)}", [str(self.bin / "python"), "-I", "-c", program], SMOKE_S)
        else:
            yield Check(name="import", ok=False, detail=f"{self.wheel.name} holds none of the component's modules")
        for script in self._scripts() if scripts else ():
            yield self._asked(f"{script} --help", [str(self.bin / script), "--help"], SMOKE_S)

    def healthy(self, health: Health) -> Check:
        """Ask the release while it is in use."""
        if health.url:
            return _polled(health)
        return self._asked("health", _filled(health.command, self._paths), health.timeout_s, network=True)

    @property
    def _paths(self) -> Mapping[str, Path]:
        return {"python": self.bin / "python", "bin": self.bin, "release": self.folder}

    def _asked(self, name: str, argv: Sequence[str], wall_s: float, *, network: bool = False) -> Check:
        """Run a command that tells by its status."""
        try:
            completed = self.sandbox.run(argv, cwd=self.folder, limits=Limits(wall_s=wall_s), network=network)
        except SandboxError as error:
            return Check(name=name, ok=False, detail=error.message)
        if completed.ok:
            return Check(name=name, ok=True)
        if completed.stopped:
            return Check(name=name, ok=False, detail=f"did not end within {wall_s:g} s")
        said = (completed.stderr.strip() or completed.stdout.strip())[-MAX_SAID:]
        return Check(name=name, ok=False, detail=f"status {completed.returncode}: {said}")

    def _top_level(self) -> list[str]:
        """The component's top-level modules, as far as the wheel holds them."""
        wanted = {module.name.partition(".")[0] for module in self.component.modules}
        with zipfile.ZipFile(self.wheel) as archive:
            held = {name.partition("/")[0].partition(".")[0] for name in archive.namelist()}
        return sorted(wanted & held)

    def _scripts(self) -> list[str]:
        parser = configparser.RawConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[method-assign, assignment]
        with zipfile.ZipFile(self.wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".dist-info/entry_points.txt"):
                    parser.read_string(archive.read(name).decode())
        return sorted(parser["console_scripts"]) if parser.has_section("console_scripts") else []


def _filled(command: Sequence[str], paths: Mapping[str, Path]) -> list[str]:
    words = list(command)
    for name, path in paths.items():
        words = [word.replace(f"{{{name}}}", str(path)) for word in words]
    return words


def _polled(health: Health) -> Check:
    deadline = time.monotonic() + health.timeout_s
    while True:
        said = _fetched(health.url, max(deadline - time.monotonic(), 0.1))
        if not said:
            return Check(name=f"GET {health.url}", ok=True)
        if time.monotonic() + health.interval_s >= deadline:
            return Check(name=f"GET {health.url}", ok=False, detail=f"{said}, for {health.timeout_s:g} s")
        time.sleep(health.interval_s)


def _fetched(url: str, timeout_s: float) -> str:
    """What is wrong with the answer, or an empty string."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):  # noqa: S310 - the operator's; http or https by validation
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"answers {error.code}"
    except OSError as error:
        return f"does not answer ({error})"
