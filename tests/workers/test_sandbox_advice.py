"""What `tta doctor` says of the sandbox: the level, what it means, and one command that makes it stronger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workers.confined import AVAILABLE
from workers.sandbox import ProcessSandbox
from workers.sandbox.advice import stronger
from workers.sandbox.levels import PRIVATE_LEVELS


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host with util-linux, which refuses nothing that it says."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "unshare").touch(mode=0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "environment", "command"),
    [
        (
            {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
            {},
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, {}, "unprivileged_userns_clone=1"),
        ({"proc/sys/user/max_user_namespaces": "0\n"}, {}, "max_user_namespaces="),
        ({".dockerenv": ""}, {}, "docker run --security-opt seccomp=unconfined"),
        ({"run/.containerenv": ""}, {}, "podman run --security-opt seccomp=unconfined"),
        (
            {".dockerenv": ""},
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "tta-worker-testing-5d9f-x2"},
            "kubectl patch deployment tta-worker-testing --patch",
        ),
        # Of two causes the host's own is the first: nothing within a container helps against it.
        (
            {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n", ".dockerenv": ""},
            {},
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0\n"}, {}, "unshare --user"),
    ],
)
def test_the_command_fits_the_host(
    files: dict[str, str], environment: dict[str, str], command: str, host: Path
) -> None:
    """What refuses namespaces is found out, and answered with one command."""
    for name, text in files.items():
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_text(text)
    advice = stronger(platform="linux", root=host, environment=environment, path=str(host / "bin"))
    assert command in advice.command
    assert str(advice).startswith(f"To make it stronger: `{advice.command}` (")


def test_a_missing_program_and_another_system_are_told(host: Path) -> None:
    """Without util-linux it is to be installed; elsewhere than on Linux workers run in a container."""
    assert "util-linux" in stronger(platform="linux", root=host, environment={}, path="").command
    assert "docker compose" in stronger(platform="darwin", root=host, environment={}, path="").command


@pytest.mark.parametrize("level", AVAILABLE)
def test_a_level_says_what_it_means(level: str) -> None:
    """One sentence, and a command only where a command of the host could see more than it must."""
    weaker = level not in PRIVATE_LEVELS
    refused = {"namespaces": "Operation not permitted"} if weaker else {}
    told = ProcessSandbox(level, refused).describe()
    assert told.startswith(f"{level}: a command")
    assert ("To make it stronger: `" in told) == weaker
    assert ("Operation not permitted" in told) == weaker
