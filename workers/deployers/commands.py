"""Runs the command lines of container engines and clusters: the operator's tools, outside the sandbox."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tta_tasks.errors import DeploymentFailed

#: What tools get of the worker's environment: where things are, and none of the worker's own secrets.
PASSED: Final = (
    "PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT",
    "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_BUILDKIT", "BUILDX_BUILDER", "KUBECONFIG", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
#: Seconds for a command that only asks, and for one that builds.
ASK_S, BUILD_S = 60.0, 1200.0
#: Characters of output shown of a command that failed.
MAX_OUTPUT = 1500


@dataclass(frozen=True)
class CommandResult:
    """A command that has ended."""

    status: int
    stdout: str
    output: str

    @property
    def ok(self) -> bool:
        """Whether its status is 0."""
        return self.status == 0


@dataclass(frozen=True)
class Tool:
    """A program with its first arguments, and the variables added to its environment."""

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, stdin: str = "", timeout_s: float = ASK_S) -> CommandResult:
        """Run it to its end.

        Raises:
            DeploymentFailed: It is not installed, or takes too long.
        """
        argv = [*self.words, *words]
        try:
            done = subprocess.run(
                argv,
                env={name: os.environ[name] for name in PASSED if name in os.environ} | dict(self.env),
                cwd="/",
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise DeploymentFailed(
                f"{self.words[0]} is not installed on this deployment worker.",
                "Install it and see that it is on the worker's PATH, or deploy elsewhere.",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise DeploymentFailed(f"`{_shown(argv)}` took longer than {timeout_s:g} s.") from error
        return CommandResult(done.returncode, done.stdout, (done.stderr.strip() or done.stdout.strip())[-MAX_OUTPUT:])

    def require(self, *words: str, stdin: str = "", timeout_s: float = ASK_S, hint: str = "") -> str:
        """Run it, require status 0, and return what it printed.

        Raises:
            DeploymentFailed: It failed, is not installed, or takes too long.
        """
        result = self.run(*words, stdin=stdin, timeout_s=timeout_s)
        if not result.ok:
            raise DeploymentFailed(f"`{_shown([*self.words, *words])}` failed: {result.output}", hint)
        return result.stdout


def _shown(argv: list[str]) -> str:
    """A command for a person, without what would fill a page."""
    return " ".join(word if len(word) < 100 else f"{word[:90]}..." for word in argv)  # noqa: PLR2004 - a line's length
