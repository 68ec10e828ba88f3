"""Runs uv where nothing foreign can start: what it resolves and downloads are wheels, and it builds none.

uv starts the interpreter that it installs for, and an interpreter runs what a package put into its environment. So
packages come from the network into an environment that is still empty, in one step; what is added later comes from
files, without the network and without the cache.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from uv import find_uv_bin

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.foreign import ForeignTree
from tta_tasks.protocols import Completed, Limits, Sandbox
from workers.environment.interpreters import Interpreter

#: What may pass from this host's environment: where packages come from, and how to get there.
PASSED = (
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY",
    "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_OFFLINE", "UV_HTTP_TIMEOUT", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
#: pip's names for the same, used where uv's own are not set.
PIP_NAMES = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "UV_FIND_LINKS": "PIP_FIND_LINKS",
}
#: Of the whole host, by its administrator; what a project or a user configures is not read.
CONFIGURATION = Path("/etc/uv/uv.toml")
#: A build may compile: generous, but bounded.
LIMITS = Limits(wall_s=1200, memory_bytes=32 << 30, processes=4096, file_bytes=4 << 30, output_bytes=256 << 10)
#: Largest list of pinned packages.
MAX_LOCK_BYTES = 32 << 20
#: What a message of dependencies that do not install begins with.
DEPENDENCIES_FAILED = "The component's dependencies do not install: "
#: Lines of uv's message that reach a person.
DECISIVE_LINES = 12


@dataclass(frozen=True)
class Sources:
    """Where this host takes packages from."""

    #: URLs of package indexes; may hold credentials.
    indexes: tuple[str, ...]
    #: URLs and folders that list packages.
    find_links: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host and port of each, as URLs name them."""
        return tuple(urlsplit(url).netloc.rpartition("@")[2] for url in (*self.indexes, *self.find_links))


@dataclass(frozen=True)
class Installer:
    """Resolves, downloads and installs wheels.

    Attributes:
        interpreter: What environments are made from.
        cache: uv's cache, shared by all environments of this host: only commands of this class see it.
        work: A folder of ours for what is needed meanwhile.
    """

    sandbox: Sandbox
    interpreter: Interpreter
    cache: Path
    work: Path

    @cached_property
    def sources(self) -> Sources:
        """Where this host takes packages from.

        Raises:
            EnvironmentFailed: uv does not tell.
        """
        indexes, links = [], []
        for line in self.require(self._compile([], {}, "--emit-index-url", "--emit-find-links")).splitlines():
            option, _, value = line.partition(" ")
            if option in {"--index-url", "--extra-index-url"}:
                indexes.append(value)
            elif option == "--find-links":
                links.append(value)
        return Sources(tuple(indexes), tuple(links))

    def resolve(
        self,
        requirements: Sequence[str],
        *,
        constraints: Sequence[str] = (),
        overrides: Sequence[str] = (),
        wheelhouse: Path | None = None,
        prerelease: bool = False,
        further: bool = True,
    ) -> Completed:
        """Find a version of everything that ``requirements`` need, among packages that have a wheel.

        Args:
            requirements: As PEP 508 writes them, with no other URLs than those of files in ``wheelhouse``.
            constraints: Of the same form; they ask for nothing.
            overrides: Of the same form; they take the place of all others of their name.
            wheelhouse: A folder of wheels that were built here.
            prerelease: Whether all packages may be pre-releases.
            further: Whether what they need in turn is found, too.

        Returns:
            The command; its standard output is the list for :meth:`make`: versions pinned by hash.
        """
        options = ["--generate-hashes", "--prerelease", "allow" if prerelease else "if-necessary-or-explicit"]
        options += [] if further else ["--no-deps"]
        # An option would take the place of the variable that names this host's own folders.
        lines = [*([f"--find-links {wheelhouse}"] if wheelhouse else []), *requirements]
        return self._compile(lines, {"--constraints": constraints, "--overrides": overrides}, *options)

    def make(self, home: Path, lock: str) -> Path:
        """Make a virtual environment of pinned wheels; answer its interpreter.

        Args:
            home: Where; there is nothing yet.
            lock: What :meth:`resolve` gave, as far as it comes from the host's indexes.

        Raises:
            EnvironmentFailed: They do not install.
        """
        venv = ("venv", "--no-project", "--quiet", "--python", self.interpreter.path, home)
        home.mkdir(exist_ok=True)
        self.require(self._uv(venv, cwd=self.work, writable=[home]))
        if lock.strip():
            with tempfile.TemporaryDirectory(dir=self.work, prefix="uv-") as name:
                locked = Path(name, "lock.txt")
                locked.write_text(lock, encoding="utf-8")
                install = ("pip", "install", "--python", home / "bin" / "python", *_WHEELS_ONLY, "--requirements")
                self.require(self._uv((*install, locked), cwd=locked.parent, writable=[home, locked.parent]))
        return home / "bin" / "python"

    def add(self, home: Path, wheels: Sequence[Path]) -> Completed:
        """Install wheels of ours into an environment that may hold anything: without network and shared cache."""
        install: list[str | Path] = ["pip", "install", "--python", home / "bin" / "python", "--no-deps", "--no-build"]
        offline: list[str | Path] = ["--offline", "--no-index", "--no-cache", "--no-config", *wheels]
        return self.sandbox.run(
            [Path(find_uv_bin()), *install, *offline],
            cwd=self.work,
            writable=[home],
            readable=[*self._readable, *wheels],
            env=_ALWAYS,
            limits=LIMITS,
        )

    def run(self, home: Path, *arguments: str | Path, readable: Sequence[Path] = ()) -> Completed:
        """Run an environment's interpreter, which may change the environment, without the network."""
        return self.sandbox.run(
            [home / "bin" / "python", *arguments],
            cwd=home,
            writable=[home],
            readable=[*self.interpreter.readable, *readable],
            limits=LIMITS,
        )

    def compile(self, home: Path) -> None:
        """Make the bytecode, once here rather than in every run: the environment is read-only then."""
        # Its status is of no interest: packages ship templates and fixtures that are no valid Python.
        self.run(home, "-m", "compileall", "-q", "-q", "-j", "0", home / "lib")

    @staticmethod
    def require(completed: Completed) -> str:
        """See that a step succeeded; answer what it printed.

        Raises:
            EnvironmentFailed: It did not.
        """
        if completed.stopped:
            raise EnvironmentFailed(f"Installing the component's dependencies took longer than {LIMITS.wall_s:.0f} s.")
        if not completed.ok:
            raise unresolvable(decisive(completed.stderr))
        return completed.stdout

    def environment(self) -> dict[str, str]:
        """The variables that say where packages come from, and how to get there."""
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        if not any(name in passed for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS")):
            passed |= {name: os.environ[pip] for name, pip in PIP_NAMES.items() if pip in os.environ}
        return passed

    def local_sources(self) -> list[Path]:
        """Files and folders of this host that the variables name."""
        words = " ".join(self.environment().values()).replace(",", " ").split()
        paths = [Path(unquote(urlsplit(word).path)) if word.startswith("file://") else Path(word) for word in words]
        return [path for path in paths if path.is_absolute() and path != Path("/") and path.exists()]

    def _compile(self, requirements: Sequence[str], more: Mapping[str, Sequence[str]], *options: str) -> Completed:
        with tempfile.TemporaryDirectory(dir=self.work, prefix="uv-") as name:
            folder = Path(name)
            words = [*options]
            for number, (option, lines) in enumerate(more.items()):
                _write(folder / f"{number}.txt", lines)
                words += [option, f"{number}.txt"]
            _write(folder / "requirements.in", requirements)
            compiling = ("pip", "compile", "requirements.in", "--output-file", "lock.txt", "--python")
            quietly = ("--no-build", "--no-header", "--no-annotate", "--quiet", *words)
            done = self._uv((*compiling, self.interpreter.path, *quietly), cwd=folder, writable=[folder])
            if not done.ok:
                return done
            lock = ForeignTree(folder).read_text("lock.txt", max_bytes=MAX_LOCK_BYTES)
            return Completed(done.argv, done.returncode, lock, done.stderr, done.duration_s)

    def _uv(self, words: Sequence[str | Path], *, cwd: Path, writable: Sequence[Path]) -> Completed:
        configuration = ("--config-file", CONFIGURATION) if CONFIGURATION.is_file() else ("--no-config",)
        self.cache.mkdir(parents=True, exist_ok=True)
        return self.sandbox.run(
            [find_uv_bin(), *words, *configuration],
            cwd=cwd,
            writable=[*writable, self.cache],
            readable=[*self._readable, *self.local_sources(), *(folder for folder in (self.work,) if cwd != folder)],
            env={**self.environment(), **_ALWAYS, "UV_CACHE_DIR": str(self.cache)},
            limits=LIMITS,
            network=True,
        )

    @property
    def _readable(self) -> list[Path]:
        return [Path(find_uv_bin()), *self.interpreter.readable]


_WHEELS_ONLY = ("--no-deps", "--no-build", "--require-hashes")
_ALWAYS = {
    # Links cannot cross mounts, and a linked file could be changed through the cache.
    "UV_LINK_MODE": "copy",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
}


def unresolvable(why: str) -> EnvironmentFailed:
    """The failure of dependencies that do not install."""
    return EnvironmentFailed(
        f"{DEPENDENCIES_FAILED}{why}",
        "Correct them in the component's repository, or name the index this worker should use"
        " (UV_DEFAULT_INDEX, UV_INDEX).",
    )


def decisive(message: str) -> str:
    """The lines of a command's message that tell what is wrong."""
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("error:")]
    return "\n".join(lines[starts[0] :][:DECISIVE_LINES] if starts else lines[-DECISIVE_LINES:])


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
