"""``tta serve``: keeps all that this host serves, from its start to its end; for systemd, or a container."""

from __future__ import annotations

import contextlib
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
from workers.deployers.serving.states import Files
from workers.deployers.targets import folders

#: How often environments without a keeper are looked for, in seconds.
LOOK_S = 0.5
#: Seconds that the keepers may take to end.
ENDED_S = 60.0


def hosted(base: Path) -> bool:
    """Whether somebody starts keepers for the environments below ``base``'s grandparent, whenever one is missing."""
    with contextlib.suppress(Timeout), _lock(base.parents[1], 0):
        return False
    return True


def serve(say: Callable[[str], None], stop: bool) -> None:  # noqa: FBT001 - behind an entry point
    """Keep what is served below the folders that the targets file names, until SIGTERM or Ctrl-C.

    The entry point ``serve`` of ``tta_tasks.worker``.

    Args:
        say: Told what is done.
        stop: End it instead.

    Raises:
        SettingsError: No targets file is named.
        DeploymentFailed: It does not hold, or somebody else does this already.
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
    keepers: dict[Path, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(_held(place))
        while not ended.wait(LOOK_S):
            for base in _forsaken(places):
                if base not in keepers or keepers[base].poll() is not None:
                    say(f"keeping {base}")
                    keepers[base] = _keeper(base)
        _end(keepers)


def _stop(places: list[Path], say: Callable[[str], None]) -> None:
    for files in _served(places):
        if not files.forsaken():  # so the process is its keeper, and no other that was given its id
            say(f"ending {files.base}")
            os.kill(files.status().pid, signal.SIGTERM)
    until = time.monotonic() + ENDED_S
    while not all(files.forsaken() for files in _served(places)):
        if time.monotonic() > until:
            raise DeploymentFailed("Not all that is served has ended.", "Is there a `tta serve`? End that.")
        time.sleep(LOOK_S)


def _served(places: list[Path]) -> list[Files]:
    return [Files(written.parent) for place in places for written in place.glob("*/*/serving.json")]


def _forsaken(places: list[Path]) -> Iterator[Path]:
    """Environments in which something should be served, and nobody does."""
    for files in _served(places):
        if (plan := files.plan()) is not None and plan.backends and files.forsaken():
            yield files.base


def _keeper(base: Path) -> subprocess.Popen[bytes]:
    # A group of its own: Ctrl-C is for us, and we tell them in our own time.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __package__ + ".service_supervisor", str(base)],
        cwd="/",
        process_group=0,
        stdin=subprocess.DEVNULL,
    )


def _end(keepers: dict[Path, subprocess.Popen[bytes]]) -> None:
    for keeper in keepers.values():
        keeper.terminate()
    for keeper in keepers.values():
        keeper.wait(ENDED_S)


@contextlib.contextmanager
def _held(place: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(place, 5.0):
            yield
    except Timeout as error:
        raise DeploymentFailed(f"Somebody serves what is in {place} already.", "One `tta serve` is enough.") from error


def _lock(place: Path, timeout_s: float) -> FileLock:
    return FileLock(place / "serve.lock", timeout=timeout_s)
