"""Joining the local stack of a folder: start it where there is none, hold it while it is used."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.local.children import tail
from orchestrator.local.supervisor import FAILURE, TARGETS, USERS
from tta_tasks import extras, folders, stack
from tta_tasks.errors import BrokerUnavailable, SettingsError, StoreUnavailable
from tta_tasks.stack import Stack

STARTED_WITHIN_S = 40.0
#: How long we wait to see an unused stack gone; it goes in any case, and stays when others use it.
ENDED_WITHIN_S = 3.0
LEAST_FREE_BYTES = 64 << 20

_TARGETS = """\
# What can be deployed where from this folder. Read by the deployment worker; a repository being deployed only names an
# environment.

[environments.staging]
deployer = "local"
path = {path}

[environments.production]
deployer = "local"
path = {path}
"""


@contextlib.contextmanager
def joined(state: Path, *, slots: int | None = None, port: int | None = None, keep: bool = False) -> Iterator[Stack]:
    """Use the local stack of ``state``, starting it where none runs.

    It stays up at least until the end of the block, and ends soon after nobody uses it, unless it was started to be
    kept.

    Args:
        state: The ``.tta`` folder; made if missing.
        slots: Tasks it does at once, where it must be started; by default one a processor.
        port: Where it must be started, the port on the loopback that its broker listens on, 0 for a free one; without,
            it listens on a Unix socket.
        keep: Whether it stays when nobody uses it.

    Raises:
        SettingsError: The folder cannot be written, we did not make it, or this installation has no worker.
        BrokerUnavailable: The stack does not come up.
    """
    state = prepare(state)
    with folders.opened(state / USERS, "ab") as users:
        fcntl.flock(users.fileno(), fcntl.LOCK_SH)  # waits while an unused stack shuts down
        with folders.opened(state / "start.lock", "ab") as start:
            fcntl.flock(start.fileno(), fcntl.LOCK_EX)
            running, started = stack.find(state), None
            if running is None:
                running, started = _start(state, slots or os.cpu_count() or 1, port, keep=keep)
        yield running
    if started is not None and not keep:
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(ENDED_WITHIN_S)


def prepare(state: Path) -> Path:
    """Make the state folder, invisible to git, with targets to deploy to; return it, absolute.

    Raises:
        SettingsError: It cannot be written, or there is one that we did not make.
        StoreUnavailable: There is hardly any room.
    """
    state = folders.made(state, folders.STATE)
    try:
        for name, text in ((".gitignore", "*\n"), (TARGETS, _targets(state))):
            with contextlib.suppress(FileExistsError), folders.opened(state / name, "xb") as file:
                file.write(text.encode())
    except OSError as error:
        raise SettingsError(
            f"The state folder {state} cannot be written: {error.strerror}.",
            "Choose another one with TTA_STATE_DIR, or free some room.",
        ) from error
    if (free := shutil.disk_usage(state).free) < LEAST_FREE_BYTES:
        raise StoreUnavailable(
            f"Only {free >> 20} MiB are free where {state} is; broker, releases and reports need more.",
            "Free some room, or choose another place with TTA_STATE_DIR.",
        )
    return state


def failure(state: Path) -> str:
    """Why the stack that was just used ended by itself, or an empty string."""
    found = folders.found(state, folders.STATE)
    try:
        if found is not None:
            with folders.opened(found / FAILURE, "rb") as file:
                return file.read().decode(errors="replace")
    except OSError:
        pass
    return ""


def _targets(state: Path) -> str:
    path = str(state / "deployments").replace("\\", "\\\\").replace('"', '\\"')
    return _TARGETS.format(path=f'"{path}"')


def _start(state: Path, slots: int, port: int | None, *, keep: bool) -> tuple[Stack, subprocess.Popen[bytes]]:
    extras.require("worker", "The local stack, which is used as TTA_BROKER_URL names no fleet,")
    (state / FAILURE).unlink(missing_ok=True)
    log = state / "logs" / "supervisor.log"
    log.parent.mkdir(exist_ok=True)
    # Not from the folder it is started in (-P): that may be somebody's repository.
    argv = [sys.executable, "-P", "-m", "orchestrator.local.supervisor", str(state)]
    argv += ["--slots", str(slots), *([] if port is None else ["--port", str(port)]), *(["--keep"] if keep else [])]
    with folders.opened(log, "wb") as output:
        # Its own session: a Ctrl-C in the terminal is for us, and the stack ends when we let go of it.
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    until = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < until:
        found = stack.find(state)
        if found is not None and found.pid == process.pid:
            return found, process
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise BrokerUnavailable(
        f"The local stack did not start: {failure(state) or tail(log) or 'it said nothing'}", f"Its logs: {log.parent}."
    )
