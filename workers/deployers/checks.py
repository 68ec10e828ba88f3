"""Whether a release works: before it is put into use, and after."""

from __future__ import annotations

import configparser
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tta_tasks.errors import SandboxError
from tta_tasks.models import Check, Component, Model
from tta_tasks.protocols import Limits, Sandbox

#: Seconds that one smoke check may take.
SMOKE_S = 60.0
#: Seconds that one question may take, and between two looks at a watched release that cannot be asked.
ASK_S, WATCH_S = 10.0, 0.5
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
    #: How often in a row a watched release may answer badly before it is rolled back.
    tolerate: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("name either a command or a url")
        return self

    def at(self, address: str) -> Health:
        """The same for a service that listens at ``address`` (``host:port``)."""
        paths = _places(address)
        return self.model_copy(
            update={"url": _filled([self.url], paths)[0], "command": tuple(_filled(self.command, paths))}
        )


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

    def smoke(self, command: Sequence[str], *, scripts: bool, address: str = "") -> Iterator[Check]:
        """Whether it works before it is used; by default, that it can be imported.

        Args:
            command: The operator's own check instead.
            scripts: Whether to ask each of its programs for ``--help``.
            address: Where it listens, as ``host:port``, if it does; the check then has the network.
        """
        if command:
            filled = _filled(_filled(command, self.paths), _places(address))
            yield self._asked("smoke", filled, SMOKE_S, network=bool(address))
        elif tops := self._top_level():
            program = "; ".join(f"import {top}" for top in tops)
            yield self._asked(f"import {', '.join(tops)}", [str(self.bin / "python"), "-I", "-c", program], SMOKE_S)
        else:
            yield Check(name="import", ok=False, detail=f"{self.wheel.name} holds none of the component's modules")
        for script in self._scripts() if scripts else ():
            yield self._asked(f"{script} --help", [str(self.bin / script), "--help"], SMOKE_S)

    def healthy(self, health: Health, dead: Callable[[], str] = str) -> Check:
        """Ask the release until it is well, or time is up.

        Args:
            health: How.
            dead: Why it needs not be asked any more, or an empty string.
        """
        if health.url:
            return _polled(health, dead)
        return self._asked("health", _filled(health.command, self.paths), health.timeout_s, network=True)

    def well(self, health: Health) -> Check:
        """Ask the release a single time."""
        return _asked_once(health) if health.url else self.healthy(health)

    @property
    def paths(self) -> Mapping[str, Path]:
        """What commands may name."""
        return {"python": self.bin / "python", "bin": self.bin, "release": self.folder}

    def _asked(self, name: str, argv: Sequence[str], wall_s: float, *, network: bool = False) -> Check:
        return _ran(self.sandbox, self.folder, name, argv, wall_s, network=network)

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


@dataclass(frozen=True)
class Reached:
    """A release that is asked from outside, over the network; commands run in the sandbox."""

    #: Where commands start.
    folder: Path
    sandbox: Sandbox
    #: Where it listens, as ``host:port``; may be empty.
    address: str = ""

    def smoke(self, command: Sequence[str]) -> tuple[Check, ...]:
        """The operator's own check, where there is one."""
        words = _filled(command, _places(self.address))
        return (_ran(self.sandbox, self.folder, "smoke", words, SMOKE_S, network=True),) if words else ()

    def healthy(self, health: Health, dead: Callable[[], str] = str) -> Check:
        """Ask until it is well, time is up, or it is ``dead``."""
        asked = health.at(self.address)
        return _polled(asked, dead) if asked.url else self._commanded(asked)

    def well(self, health: Health) -> Check:
        """Ask a single time."""
        asked = health.at(self.address)
        return _asked_once(asked) if asked.url else self._commanded(asked)

    def _commanded(self, health: Health) -> Check:
        return _ran(self.sandbox, self.folder, "health", health.command, health.timeout_s, network=True)


def _ran(
    sandbox: Sandbox, folder: Path, name: str, argv: Sequence[str], wall_s: float, *, network: bool = False
) -> Check:
    """Run a command that tells by its status."""
    try:
        completed = sandbox.run(argv, cwd=folder, limits=Limits(wall_s=wall_s), network=network)
    except SandboxError as error:
        return Check(name=name, ok=False, detail=error.message)
    if completed.ok:
        return Check(name=name, ok=True)
    if completed.stopped:
        return Check(name=name, ok=False, detail=f"did not end within {wall_s:g} s")
    said = (completed.stderr.strip() or completed.stdout.strip())[-MAX_SAID:]
    return Check(name=name, ok=False, detail=f"status {completed.returncode}: {said}")


def passed(checks: Iterable[Check]) -> bool:
    """Whether all went well."""
    return all(check.ok for check in checks)


def said_of(checks: Iterable[Check]) -> str:
    """What did not go well."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.ok)


def watched(watch_s: float, health: Health | None, once: Callable[[Health], Check], dead: Callable[[], str]) -> Check:
    """Look at a release that is in use, for a while.

    Args:
        watch_s: Seconds.
        health: How to ask it; ``None`` only looks whether it lives.
        once: Asks it once.
        dead: Why it does not live any more, or an empty string.
    """
    name, began, bad = f"watched for {watch_s:g} s", time.monotonic(), 0
    while (at := time.monotonic() - began) < watch_s:
        if why := dead():
            return Check(name=name, ok=False, detail=f"after {at:.1f} s: {why}")
        if health is not None:
            answer = once(health.model_copy(update={"timeout_s": min(health.timeout_s, ASK_S)}))
            bad = 0 if answer.ok else bad + 1
            if bad > health.tolerate:
                return Check(name=name, ok=False, detail=f"after {at:.1f} s: {answer.name} {answer.detail}")
        time.sleep(min(health.interval_s if health else WATCH_S, max(watch_s - (time.monotonic() - began), 0)))
    return Check(name=name, ok=True)


def _asked_once(health: Health) -> Check:
    """Ask a URL a single time."""
    said = _fetched(health.url, health.timeout_s)
    return Check(name=f"GET {health.url}", ok=not said, detail=said)


def _places(address: str) -> Mapping[str, str]:
    return {"address": address, "port": address.rpartition(":")[2]} if address else {}


def _filled(command: Sequence[str], places: Mapping[str, Path] | Mapping[str, str]) -> list[str]:
    words = list(command)
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", str(place)) for word in words]
    return words


def _polled(health: Health, dead: Callable[[], str] = str) -> Check:
    """Ask a URL until the answer is good, time is up, or whoever should answer is ``dead``."""
    deadline = time.monotonic() + health.timeout_s
    while True:
        said = _fetched(health.url, max(min(deadline - time.monotonic(), ASK_S), 0.1))
        if not said:
            return Check(name=f"GET {health.url}", ok=True)
        if why := dead():
            return Check(name=f"GET {health.url}", ok=False, detail=why)
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
