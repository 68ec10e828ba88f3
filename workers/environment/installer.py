"""Runs uv in the sandbox, and tells what went wrong in a few lines."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.protocols import Completed, Limits, Sandbox

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
#: A build may compile: generous, but bounded.
LIMITS = Limits(wall_s=1200, memory_bytes=32 << 30, processes=4096, file_bytes=4 << 30, output_bytes=256 << 10)
#: Lines of uv's message that reach a person.
DECISIVE_LINES = 12


@dataclass(frozen=True)
class Installer:
    """Installs into one virtual environment.

    Attributes:
        home: The folder being built; holds the environment (``venv``) and whatever is needed meanwhile.
        project: Where commands run; paths in their arguments are relative to it.
        cache: uv's cache.
        env: Added to the environment of builds.
        readable: What commands may read beside these folders: the interpreter that the environment is made from.
    """

    sandbox: Sandbox
    home: Path
    project: Path
    cache: Path
    env: Mapping[str, str]
    readable: tuple[Path, ...]

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.home / "venv" / "bin" / "python"

    def create(self, base: Path) -> None:
        """Make the empty environment.

        Raises:
            EnvironmentFailed: It cannot be made.
        """
        self.require(self._uv("venv", "--no-project", "--quiet", "--python", base, self.home / "venv"))

    def install(self, *arguments: str) -> Completed:
        """``uv pip install``."""
        return self._uv("pip", "install", "--python", self.python, *arguments)

    def run(self, *arguments: str | Path) -> Completed:
        """Run the environment's interpreter, without the network."""
        return self._run([self.python, *arguments], {}, network=False)

    def compile(self) -> None:
        """Make the bytecode, once here rather than in every run: the environment is read-only then."""
        # Its status is of no interest: packages ship templates and fixtures that are no valid Python.
        self.run("-m", "compileall", "-q", "-q", "-j", "0", self.home / "venv" / "lib")

    @staticmethod
    def require(completed: Completed) -> None:
        """See that a step succeeded.

        Raises:
            EnvironmentFailed: It did not.
        """
        if completed.stopped:
            raise EnvironmentFailed(f"Installing the component's dependencies took longer than {LIMITS.wall_s:.0f} s.")
        if not completed.ok:
            raise EnvironmentFailed(
                f"The component's dependencies do not install: {decisive(completed.stderr)}",
                "Correct them in the component's repository, or name the index this worker should use"
                " (UV_DEFAULT_INDEX, UV_INDEX).",
            )

    def _uv(self, *arguments: str | Path) -> Completed:
        return self._run([find_uv_bin(), *arguments], {**self.env, **self._environment()}, network=True)

    def _run(self, argv: Sequence[str | Path], env: dict[str, str], *, network: bool) -> Completed:
        return self.sandbox.run(
            argv,
            cwd=self.project,
            writable=[self.home, self.cache],
            readable=[Path(find_uv_bin()), *self.readable],
            env=env,
            limits=LIMITS,
            network=network,
        )

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        if not any(name in passed for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS")):
            passed |= {name: os.environ[pip] for name, pip in PIP_NAMES.items() if pip in os.environ}
        return passed | {
            "UV_CACHE_DIR": str(self.cache),
            # Links cannot cross mounts, and a linked file could be changed by any build through the cache.
            "UV_LINK_MODE": "copy",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }


def decisive(message: str) -> str:
    """The lines of uv's message that tell what is wrong."""
    lines = [line.rstrip() for line in message.splitlines() if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("error:")]
    return "\n".join(lines[starts[0] :][:DECISIVE_LINES] if starts else lines[-DECISIVE_LINES:])
