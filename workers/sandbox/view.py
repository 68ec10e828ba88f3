"""What a command gets to see of the host: a list of roots. What is below none of them is not there.

The list is made by the worker, from paths that the worker chose, before the command runs. A path that lies in one of
the folders given to commands is never resolved: foreign code may have put a link there.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tta_tasks.errors import SandboxError
from tta_tasks.settings import settings

#: Our own interpreter without its virtual environment: the launcher needs the standard library only.
PYTHON = Path(getattr(sys, "_base_executable", sys.executable))
#: The programs of ours that run in there.
OURS = Path(__file__).parents[1]
#: Programs and libraries of the system, and what they cannot do without.
PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
CONFIGURATION = (
    "alternatives", "ca-certificates", "crypto-policies", "debian_version", "fonts", "group", "host.conf", "hostname",
    "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-aarch64.path", "ld-musl-x86_64.path",
    "locale.alias", "locale.conf", "localtime", "magic", "magic.mime", "mime.types", "networks", "nsswitch.conf",
    "os-release", "passwd",
    "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "services", "shells",
    "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
HARDWARE = ("/sys/devices/system/cpu", "/sys/devices/system/node")
#: Stores whose programs need each other's folders: all of it, where one of them is needed.
STORES = ("/nix/store", "/gnu/store")
#: The command has its own of these, and of the latter with all below.
PRIVATE, PROVIDED = ("/", "/tmp"), ("/proc", "/dev")  # noqa: S108 - private
#: In the home folder; never shown, whatever is.
SECRETS = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".netrc", ".pypirc",
    ".git-credentials", ".npmrc",
)  # fmt: skip
#: Symbolic links on the way to one path, as the kernel counts them.
MAX_LINKS = 40


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host, which the command finds where it is."""

    path: str
    writable: bool


@dataclass(frozen=True)
class View:
    """The whole of what a command sees, beside ``/proc`` and ``/dev``. All paths are absolute."""

    #: Symbolic links on the way to what it sees: path -> target.
    links: Mapping[str, str]
    #: Outer ones first; the command's temporary folder is not among them.
    mounts: tuple[Mount, ...]
    #: Below them, and never shown: the product's state and secrets.
    covered: tuple[str, ...]


@dataclass
class _Survey:
    """Finds out where paths lead."""

    #: Folders that commands were given: beneath them no link is followed.
    given: frozenset[str]
    links: dict[str, str] = field(default_factory=dict)

    def place(self, path: str) -> str:
        """Where ``path`` leads.

        Raises:
            SandboxError: It goes through a link that foreign code may have made.
        """
        place, left, found = "", path.split("/"), 0
        while left:
            part = left.pop(0)
            if part == "..":
                place = place.rpartition("/")[0]
            if part in {"", ".", ".."}:
                continue
            here = f"{place}/{part}"
            if not _is_link(here):
                place = here
                continue
            if any(_within(place, folder) for folder in self.given):
                raise SandboxError(f"The sandbox is to open {path} to a command, but {here} is a link.")
            if (found := found + 1) > MAX_LINKS:
                raise SandboxError(f"The sandbox is to open {path} to a command, but its links lead nowhere.")
            target = self.links[here] = str(Path(here).readlink())
            place = "" if target.startswith("/") else place
            left = [*target.split("/"), *left]
        return place or "/"


def look(
    program: str, cwd: Path, *, writable: Iterable[Path] = (), readable: Iterable[Path] = (), network: bool = False
) -> View:
    """Make the list for one command.

    Args:
        program: The first word of its command line; nothing else of it counts.
        cwd: Where it starts.
        writable: What it may write to.
        readable: What it may read beside that.
        network: Whether it must find hosts by their names.

    Raises:
        SandboxError: One of these is the product's state or a secret, or leads through a foreign link.
    """
    chosen = dict.fromkeys(map(absolute, writable), True)
    own = [Path(sys.prefix)] if program == sys.executable else []
    for path in (*readable, cwd, *settings().sandbox_readable_paths, *own):
        chosen.setdefault(absolute(path), False)
    hidden = protected()
    asked = _outermost(chosen, hidden)
    survey = _Survey(frozenset(os.path.realpath(mount.path) for mount in asked))
    system = _system(network=network)
    places: dict[str, bool] = {}
    for mount in asked:
        place = survey.place(mount.path)
        places[place] = places.get(place, False) or mount.writable
    if secret := next((path for path in hidden if path in places), None):
        raise SandboxError(f"{secret} holds the product's own state or secrets, and is open to no command.")
    places |= {store: False for store in STORES if any(_within(place, store) for place in places)}
    mounts = _outermost({**dict.fromkeys((mount.path for mount in system.mounts), False), **places}, hidden)
    return View(
        links={**system.links, **survey.links},
        mounts=tuple(mounts),
        covered=tuple(path for path in hidden if any(_within(path, mount.path) for mount in mounts)),
    )


def without(view: View) -> Iterator[Mount]:
    """The mounts of ``view``, in parts where something below them is covered; for what can only allow."""
    for mount in view.mounts:
        yield from _parts(mount, view.covered)


def protected() -> tuple[str, ...]:
    """The product's state, caches, and secrets of this host, where they lead; outer ones first."""
    chosen = settings()
    paths = [absolute(chosen.state_dir), str(chosen.cache), *(os.path.expanduser(f"~/{name}") for name in SECRETS)]  # noqa: PTH111 - many, at each command
    paths += [
        absolute(Path(value).expanduser())
        for name, value in os.environ.items()
        if value
        and name.startswith("TTA_")
        and name.endswith("_FILE")
        and name != "TTA_TLS_CA_FILE"  # a list of public certificates
    ]
    return tuple(sorted({os.path.realpath(path) for path in paths if os.path.exists(path)}, key=_depth))  # noqa: PTH110


def absolute(path: str | Path) -> str:
    """The path without ``..``, by its words alone."""
    return os.path.abspath(path)  # noqa: PTH100 - it does not resolve


@cache
def _system(*, network: bool) -> View:
    """What every command sees; the same for the life of the process."""
    survey = _Survey(frozenset())
    names = [*PROGRAMS, *(f"/etc/{name}" for name in CONFIGURATION), *HARDWARE]
    if network:
        names += ["/etc/resolv.conf", "/etc/gai.conf"]
    names += [absolute(path) for path in (OURS, PYTHON, sys.base_prefix, sys.base_exec_prefix)]
    places = {survey.place(path): False for path in names if Path(path).exists()}
    places |= {store: False for store in STORES if any(_within(place, store) for place in places)}
    return View(survey.links, tuple(_outermost(places, ())), ())


def _outermost(paths: Mapping[str, bool], hidden: Iterable[str]) -> list[Mount]:
    """What is needed to have all ``paths``, outer ones first; the value says whether one may be written to."""
    mounts: list[Mount] = []
    for path in sorted(paths, key=_depth):
        wanted = Mount(path, paths[path])
        if not (
            path in PRIVATE
            or any(_within(path, folder) for folder in PROVIDED)
            or any(_serves(mount, wanted, hidden) for mount in mounts)
            or not os.path.exists(path)  # noqa: PTH110 - see protected
        ):
            mounts.append(wanted)
    return mounts


def _serves(mount: Mount, wanted: Mount, hidden: Iterable[str]) -> bool:
    """Whether ``mount`` gives what is ``wanted``: above it, with as much right, and with nothing covered between."""
    return (
        _within(wanted.path, mount.path)
        and (mount.writable or not wanted.writable)
        and not any(_within(path, mount.path) and _within(wanted.path, path) for path in hidden)
    )


def _parts(mount: Mount, covered: Iterable[str]) -> Iterator[Mount]:
    below = [path for path in covered if _within(path, mount.path)]
    if not below:
        yield mount
        return
    with os.scandir(mount.path) as entries:
        found = [entry.path for entry in entries if not entry.is_symlink()]
    for path in found:
        if path not in below:
            yield from _parts(Mount(path, mount.writable), below)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path
