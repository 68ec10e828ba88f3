"""What makes the sandbox of this host stronger, as one command: found out from what the host says of itself."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#: What a container engine must leave out for a container's processes to make namespaces: its filter of system calls,
#: the profile that forbids mounts, and what it puts over /proc.
CONTAINER = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
#: The same for a pod of the chart's, in a user namespace of its own, which `procMount` asks for.
POD = (
    '{"spec": {"template": {"spec": {"hostUsers": false, "securityContext": {"seccompProfile": {"type": "Unconfined"},'
    ' "appArmorProfile": {"type": "Unconfined"}}, "containers": [{"name": "worker", "securityContext":'
    ' {"procMount": "Unmasked"}}]}}}}'
)
#: Settings of the kernel that refuse namespaces to those who are not root: file, value, and the command that lets them.
SETTINGS = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        "AppArmor keeps user namespaces from programs that it has no profile for (Ubuntu 23.10 and newer)",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        "the kernel gives user namespaces to root only (older Debian)",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "sudo sysctl -w user.max_user_namespaces=15000",
        "the kernel gives no user namespaces (older Red Hat)",
    ),
)


@dataclass(frozen=True)
class Advice:
    """A command, and why it helps."""

    command: str
    reason: str

    def __str__(self) -> str:
        return f"To make it stronger: `{self.command}` ({self.reason})"


def stronger(
    *,
    platform: str = sys.platform,
    root: Path = Path("/"),
    environment: Mapping[str, str] | None = None,
    path: str = SYSTEM_PATH,
) -> Advice:
    """What to do on a host where a command gets no view of its own.

    Args:
        platform: As :data:`sys.platform` names it.
        root: Where the host's files are.
        environment: This process's variables.
        path: Where programs are looked for.
    """
    environment = os.environ if environment is None else environment
    if platform != "linux":
        return Advice(
            "docker compose up --detach worker-testing",
            "only Linux can confine a command: run the workers in a Linux virtual machine or its containers, and submit"
            " from here",
        )
    for name, refused, command, reason in SETTINGS:
        if _said(root / "proc/sys" / name) == refused:
            return Advice(command, reason)
    if shutil.which("unshare", path=path) is None and shutil.which("bwrap", path=path) is None:
        return Advice("sudo apt install util-linux", "the program `unshare` is missing; other systems name it alike")
    if environment.get("KUBERNETES_SERVICE_HOST"):
        deployment = environment.get("HOSTNAME", "").rsplit("-", 2)[0] or "DEPLOYMENT"
        return Advice(
            f"kubectl patch deployment {deployment} --patch '{POD}'",
            "the pod's seccomp profile refuses namespaces. The worker itself is then less confined, what it runs is"
            " more; it needs Kubernetes 1.30 with user namespaces",
        )
    if any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")):
        engine = "podman" if (root / "run/.containerenv").exists() else "docker"
        return Advice(
            f"{engine} run {CONTAINER} ...",
            "the container's profile refuses namespaces; in a Compose file these are `security_opt`. The worker itself"
            " is then less confined, what it runs is more",
        )
    return Advice(
        "unshare --user --map-current-user --pid --fork --mount-proc true",
        "it says what refuses namespaces to this user: a service's RestrictNamespaces, or a security module",
    )


def _said(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
