"""``tta serve``: runs a service supervisor for each environment of this host; for systemd, or a container."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tta_tasks.errors import DeploymentFailed, SettingsError
from tta_tasks.settings import settings
from workers.deployers.serving.states import StateFiles
from workers.deployers.targets import folders

#: Seconds between two looks for environments without a supervisor.
LOOK_S = 0.5
#: Seconds that the supervisors may take to end.
ENDED_S = 60.0


def hosted(base: Path) -> bool:
    """Whether ``tta serve`` starts the supervisors of the environments below ``base``'s grandparent."""
    with contextlib.suppress(Timeout), _lock(base.parents[1], 0):
        return False
    return True


def serve(say: Callable[[str], None], stop: bool) -> None:  # noqa: FBT001 - behind an entry point
    """Serve what is below the folders that the targets file names, until SIGTERM or Ctrl-C.

    The entry point ``serve`` of ``tta_tasks.worker``.

    Args:
        say: Given one line for each event.
        stop: Stop what runs instead.

    Raises:
        SettingsError: No targets file is named.
        DeploymentFailed: It does not hold, or another ``tta serve`` runs.
    """
    file = settings().targets_file
    if file is None:
        raise SettingsError("There is nothing to serve: no targets file is named.", "Name it in TTA_TARGETS_FILE.")
    places = folders(file)
    if stop:
        _stop(places, say)
        return
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisors: dict[Path, subprocess.Popen[bytes]] = {}
    say_once = functools.cache(say)
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(_held(place))
        while not ended.wait(LOOK_S):
            for base in _without_supervisor(places, say_once):
                if base not in supervisors or supervisors[base].poll() is not None:
                    say(f"serving {base}")
                    supervisors[base] = _supervisor(base)
        _end(supervisors)


def _stop(places: list[Path], say: Callable[[str], None]) -> None:
    for files in _environments(places):
        if files.unsupervised():
            continue
        try:
            pid = files.observed().pid
        except DeploymentFailed as error:
            say(f"{files.base} cannot be ended: {error}")
            continue
        if pid:  # it is its supervisor's, and not another's that was given the same id
            say(f"ending {files.base}")
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + ENDED_S
    while not all(files.unsupervised() for files in _environments(places)):
        if time.monotonic() > until:
            raise DeploymentFailed("Not all that is served has ended.", "Is there a `tta serve`? End that.")
        time.sleep(LOOK_S)


def _environments(places: list[Path]) -> list[StateFiles]:
    return [StateFiles(written.parent) for place in places for written in place.glob("*/*/desired-state.json")]


def _without_supervisor(places: list[Path], report: Callable[[str], None]) -> Iterator[Path]:
    """Environments that should be served and have no supervisor; an unreadable one is reported and left out."""
    for files in _environments(places):
        try:
            desired = files.desired()
        except DeploymentFailed as error:
            report(str(error))
            continue
        if desired is not None and desired.backends and files.unsupervised():
            yield files.base


def _supervisor(base: Path) -> subprocess.Popen[bytes]:
    # A process group of its own: Ctrl-C ends this process, which ends them in order.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __package__ + ".service_supervisor", str(base)],
        cwd="/",
        process_group=0,
        stdin=subprocess.DEVNULL,
    )


def _end(supervisors: dict[Path, subprocess.Popen[bytes]]) -> None:
    for supervisor in supervisors.values():
        supervisor.terminate()
    for supervisor in supervisors.values():
        supervisor.wait(ENDED_S)


@contextlib.contextmanager
def _held(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(place, 5.0):
            yield
    except Timeout as error:
        raise DeploymentFailed(f"Another `tta serve` runs for {place}.", "One `tta serve` is enough.") from error


def _lock(place: Path, timeout_s: float) -> FileLock:
    return FileLock(place / "serve.lock", timeout=timeout_s)
