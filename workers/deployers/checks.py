"""Checks of a release: smoke checks, health checks, and the watch after it was put into use."""

from __future__ import annotations

import configparser
import contextlib
import io
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
from tta_tasks.foreign import ForeignTree
from tta_tasks.models import Check, Component, Model
from tta_tasks.protocols import Limits, Sandbox
from workers.environment.wheel import MAX_WHEEL_BYTES

#: Seconds that one smoke check may take.
SMOKE_S = 60.0
#: Seconds that one health check of the watch may take, and between two looks if there is no health check.
ASK_S, WATCH_S = 10.0, 0.5
#: Characters of output shown of a failed check.
MAX_OUTPUT = 1000


class Health(Model):
    """A health check of a release: a command or a URL."""

    #: Status 0 is healthy. ``{python}``, ``{bin}`` and ``{release}`` stand for paths in the release.
    command: tuple[str, ...] = ()
    #: A response with status 200 to 299 is healthy; polled until there is one, or time is up.
    url: str = Field(default="", pattern=r"^(https?://.+)?$")
    timeout_s: float = Field(default=30.0, gt=0)
    interval_s: float = Field(default=1.0, gt=0)
    #: Failed checks in a row after which a watched release is still kept.
    tolerate: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("name either a command or a url")
        return self

    def at(self, address: str) -> Health:
        """Return the same check for a service that listens at ``address`` (``host:port``)."""
        paths = _address_fields(address)
        return self.model_copy(
            update={"url": _fill([self.url], paths)[0], "command": tuple(_fill(self.command, paths))}
        )


@dataclass(frozen=True)
class InstalledRelease:
    """A release on disk."""

    #: Its virtual environment.
    folder: Path
    component: Component
    sandbox: Sandbox
    #: What its programs need to read beside that: the installation of its interpreter.
    readable: Sequence[Path] = ()

    @property
    def wheel(self) -> str:
        """The name of the wheel it was made of."""
        return next(each.path for each in ForeignTree(self.folder).walk() if each.path.endswith(".whl"))

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / "bin"

    def smoke(self, command: Sequence[str], *, scripts: bool, address: str = "") -> Iterator[Check]:
        """Yield the checks of a release that is not in use yet; by default, that it can be imported.

        Args:
            command: The operator's own check instead.
            scripts: Whether to run each of its programs with ``--help``.
            address: Where it listens, as ``host:port``, or an empty string; with it, the check has network access.
        """
        if command:
            filled = _fill(_fill(command, self.paths), _address_fields(address))
            yield self._run("smoke", filled, SMOKE_S, network=bool(address))
        elif tops := self._top_level():
            program = "; ".join(f"import {top}" for top in tops)
            yield self._run(f"import {', '.join(tops)}", [str(self.bin / "python"), "-I", "-c", program], SMOKE_S)
        else:
            yield Check(name="import", ok=False, detail=f"{self.wheel} holds none of the component's modules")
        for script in self._scripts() if scripts else ():
            yield self._run(f"{script} --help", [str(self.bin / script), "--help"], SMOKE_S)

    def wait_until_healthy(self, health: Health, exit_reason: Callable[[], str] = str) -> Check:
        """Run the health check until it succeeds, or time is up.

        Args:
            health: The check.
            exit_reason: Returns why the release has ended, or an empty string.
        """
        if health.url:
            return _poll(health, exit_reason)
        return self._run("health", _fill(health.command, self.paths), health.timeout_s, network=True)

    def check_health(self, health: Health) -> Check:
        """Run the health check once."""
        return _get_once(health) if health.url else self.wait_until_healthy(health)

    @property
    def paths(self) -> Mapping[str, Path]:
        """The placeholders of commands."""
        return {"python": self.bin / "python", "bin": self.bin, "release": self.folder}

    def _run(self, name: str, argv: Sequence[str], wall_s: float, *, network: bool = False) -> Check:
        return _run_check(self.sandbox, self.folder, name, argv, wall_s, readable=self.readable, network=network)

    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(ForeignTree(self.folder).read_bytes(self.wheel, max_bytes=MAX_WHEEL_BYTES)))

    def _top_level(self) -> list[str]:
        """The component's top-level modules, as far as the wheel holds them."""
        wanted = {module.name.partition(".")[0] for module in self.component.modules}
        with self._archive() as archive:
            held = {name.partition("/")[0].partition(".")[0] for name in archive.namelist()}
        return sorted(wanted & held)

    def _scripts(self) -> list[str]:
        parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
        parser.optionxform = str  # type: ignore[method-assign, assignment]
        with self._archive() as archive:
            for name in archive.namelist():
                if name.endswith(".dist-info/entry_points.txt"):
                    with contextlib.suppress(configparser.Error, UnicodeDecodeError):  # then no program comes of it
                        parser.read_string(archive.read(name).decode())
        return sorted(parser["console_scripts"]) if parser.has_section("console_scripts") else []


@dataclass(frozen=True)
class RemoteRelease:
    """A release that is checked over the network; commands run in the sandbox on this host."""

    #: Where commands start.
    folder: Path
    sandbox: Sandbox
    #: Where it listens, as ``host:port``; may be empty.
    address: str = ""

    def smoke(self, command: Sequence[str]) -> tuple[Check, ...]:
        """Run the operator's own check, if there is one."""
        words = _fill(command, _address_fields(self.address))
        return (_run_check(self.sandbox, self.folder, "smoke", words, SMOKE_S, network=True),) if words else ()

    def wait_until_healthy(self, health: Health, exit_reason: Callable[[], str] = str) -> Check:
        """Run the health check until it succeeds, time is up, or the release has ended."""
        asked = health.at(self.address)
        return _poll(asked, exit_reason) if asked.url else self._run(asked)

    def check_health(self, health: Health) -> Check:
        """Run the health check once."""
        asked = health.at(self.address)
        return _get_once(asked) if asked.url else self._run(asked)

    def _run(self, health: Health) -> Check:
        return _run_check(self.sandbox, self.folder, "health", health.command, health.timeout_s, network=True)


def _run_check(
    sandbox: Sandbox,
    folder: Path,
    name: str,
    argv: Sequence[str],
    wall_s: float,
    *,
    readable: Sequence[Path] = (),
    network: bool = False,
) -> Check:
    """Run a command in the sandbox; status 0 is ok."""
    try:
        completed = sandbox.run(argv, cwd=folder, readable=readable, limits=Limits(wall_s=wall_s), network=network)
    except SandboxError as error:
        return Check(name=name, ok=False, detail=error.message)
    if completed.ok:
        return Check(name=name, ok=True)
    if completed.stopped:
        return Check(name=name, ok=False, detail=f"did not end within {wall_s:g} s")
    output = (completed.stderr.strip() or completed.stdout.strip())[-MAX_OUTPUT:]
    return Check(name=name, ok=False, detail=f"status {completed.returncode}: {output}")


def passed(checks: Iterable[Check]) -> bool:
    """Whether all checks are ok."""
    return all(check.ok for check in checks)


def failures(checks: Iterable[Check]) -> str:
    """Return names and details of the failed checks, in one line."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if not check.ok)


def watch(
    watch_s: float, health: Health | None, ask: Callable[[Health], Check], exit_reason: Callable[[], str]
) -> Check:
    """Watch a release that is in use.

    Args:
        watch_s: Seconds.
        health: The health check; ``None`` only looks whether the release has ended.
        ask: Runs the health check once.
        exit_reason: Returns why the release has ended, or an empty string.
    """
    name, began, bad = f"watched for {watch_s:g} s", time.monotonic(), 0
    while (at := time.monotonic() - began) < watch_s:
        if why := exit_reason():
            return Check(name=name, ok=False, detail=f"after {at:.1f} s: {why}")
        if health is not None:
            answer = ask(health.model_copy(update={"timeout_s": min(health.timeout_s, ASK_S)}))
            bad = 0 if answer.ok else bad + 1
            if bad > health.tolerate:
                return Check(name=name, ok=False, detail=f"after {at:.1f} s: {answer.name} {answer.detail}")
        time.sleep(min(health.interval_s if health else WATCH_S, max(watch_s - (time.monotonic() - began), 0)))
    return Check(name=name, ok=True)


def _get_once(health: Health) -> Check:
    """Request a URL once."""
    wrong = _fetch(health.url, health.timeout_s)
    return Check(name=f"GET {health.url}", ok=not wrong, detail=wrong)


def _address_fields(address: str) -> Mapping[str, str]:
    return {"address": address, "port": address.rpartition(":")[2]} if address else {}


def _fill(command: Sequence[str], places: Mapping[str, Path] | Mapping[str, str]) -> list[str]:
    words = list(command)
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", str(place)) for word in words]
    return words


def _poll(health: Health, exit_reason: Callable[[], str] = str) -> Check:
    """Request a URL until the response is good, time is up, or the release has ended."""
    deadline = time.monotonic() + health.timeout_s
    while True:
        wrong = _fetch(health.url, max(min(deadline - time.monotonic(), ASK_S), 0.1))
        if not wrong:
            return Check(name=f"GET {health.url}", ok=True)
        if why := exit_reason():
            return Check(name=f"GET {health.url}", ok=False, detail=why)
        if time.monotonic() + health.interval_s >= deadline:
            return Check(name=f"GET {health.url}", ok=False, detail=f"{wrong}, for {health.timeout_s:g} s")
        time.sleep(health.interval_s)


def _fetch(url: str, timeout_s: float) -> str:
    """Return what is wrong with the response, or an empty string."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):  # noqa: S310 - the operator's; http or https by validation
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"answers {error.code}"
    except OSError as error:
        return f"does not answer ({error})"
