"""What the launcher asks of the Linux kernel and the standard library has no name for.

Imported by the launcher inside the sandbox, so standard library only, and little of that.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 1, 2, 4, 8, 4096, 16384
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, MNT_DETACH, RESOLVE_NO_SYMLINKS = -100, 0x1000, 0x8000, 2, 4
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
AF_INET, SOCK_DGRAM, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 2, 2, 0x8913, 0x8914, 1
# The same numbers on every architecture: these calls are younger than the unified table.
SYS_OPENAT2, SYS_MOUNT_SETATTR = 437, 442
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH, LANDLOCK_RULE_NET_PORT = 1, 1, 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

#: The first version of Landlock that can refuse to truncate files.
LANDLOCK_NEEDED = 3
#: All rights that change something, and the one that exists since version 5 (ioctl on devices).
LANDLOCK_WRITE, LANDLOCK_IOCTL = sum(1 << bit for bit in (1, *range(4, 15))), 1 << 15
#: Execute, read a file, list a folder.
LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3
#: Those of all that make sense for a single file: execute, write, read, truncate, ioctl.
LANDLOCK_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
#: Since version 4.
LANDLOCK_CONNECT_TCP = 2
#: Abstract sockets and signals stay inside, since version 6.
LANDLOCK_SCOPES = 3
#: Devices that anybody may write to.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
#: A file system that holds mount points and links alone.
_SMALL = "size=1m,nr_inodes=8k"
#: Files in shared memory, and terminals.
SHARED_FILES, TERMINALS = 1 << 14, 256

_libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int, what: str) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return answer


def become_subreaper(*, wanted: bool = True) -> None:
    """Become the parent of all descendants that lose theirs, or be so no longer."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0), "subreaper")


def refuse_inspection() -> None:
    """Let no process without privileges trace this one, read its memory, or take its descriptors."""
    _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "not dumpable")


def drop_privileges() -> None:
    """Give up every capability, for good, and gain none by executing a program."""
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those the kernel does not know
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_libc.capset(struct.pack("II", LINUX_CAPABILITY_VERSION_3, 0), bytes(24)), "capset")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def raise_loopback() -> None:
    """Bring the loopback of a new network namespace up."""
    anything = _check(_libc.socket(AF_INET, SOCK_DGRAM, 0), "socket")
    name = b"lo".ljust(16, b"\0")
    (flags,) = struct.unpack_from("H", fcntl.ioctl(anything, SIOCGIFFLAGS, name + bytes(24)), 16)
    fcntl.ioctl(anything, SIOCSIFFLAGS, name + struct.pack("H", flags | IFF_UP) + bytes(22))
    os.close(anything)


def build_view(
    temporary: str,
    links: list[tuple[str, str]],
    mounts: list[tuple[str, bool]],
    covered: list[str],
    shared_bytes: int,
) -> None:
    """In a mount namespace of our own: move into a new root that holds what is named, and nothing else.

    Args:
        temporary: What takes the place of ``/tmp``.
        links: Symbolic links: path, target.
        mounts: Files and folders of the host: path, and whether it may be written to.
        covered: Paths below them that are not shown.
        shared_bytes: Most bytes of shared memory.
    """
    # All are opened before anything is mounted, and no link is followed: foreign code may have changed what is there
    # since the list was made.
    sources = {path: _open(path) for path, _ in mounts}
    sources["/tmp"] = _open(temporary)  # noqa: S108 - private from here on
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES if os.path.exists(f"/dev/{name}")}
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,{_SMALL}")  # noqa: S108
    os.chdir("/tmp")  # noqa: S108
    root = os.open(".", os.O_PATH)
    writable = {"/tmp", *(path for path, may in mounts if may)}  # noqa: S108
    targets = dict(links)
    sealed = ["/dev", "/"]
    for path in sorted({*sources, *targets, *covered}, key=lambda path: path.count("/")):
        if path in sources:
            _bind(sources[path], _mount_point(root, path, folder=_is_folder(sources[path])))
            _restrict(root, path, MS_NOSUID | MS_NODEV | (0 if path in writable else MS_RDONLY))
        elif path in targets:
            _link(root, path, targets[path])
        elif _is_folder(point := _open(path, root)):
            _mount("tmpfs", _name(point), "tmpfs", MS_NOSUID | MS_NODEV, f"mode=755,{_SMALL}")
            sealed.append(path)
        else:
            _bind(devices["null"], point)
    kernel = os.open("/proc", os.O_PATH)
    _bind(kernel, _mount_point(root, "/proc", folder=True))
    _restrict(root, "/proc", MS_RDONLY)
    _make_devices(root, devices, shared_bytes)
    for path in sealed:
        _restrict(root, path, MS_RDONLY, recursive=False)
    # The old root goes below the new one, and then away.
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "the old root")
    os.chdir("/")
    for descriptor in (root, kernel, *sources.values(), *devices.values()):
        os.close(descriptor)


def _make_devices(root: int, devices: dict[str, int], shared_bytes: int) -> None:
    """A ``/dev`` with what programs need; as root, the host's would hold its disks."""
    folder = _mount_point(root, "/dev", folder=True)
    _mount("tmpfs", _name(folder), "tmpfs", MS_NOSUID, f"mode=755,{_SMALL}")
    for name, source in devices.items():
        _bind(source, _mount_point(root, f"/dev/{name}", folder=False))
    shared, terminals = (_mount_point(root, f"/dev/{name}", folder=True) for name in ("shm", "pts"))
    bound = f"mode=1777,size={shared_bytes},nr_inodes={SHARED_FILES}"
    _mount("tmpfs", _name(shared), "tmpfs", MS_NOSUID | MS_NODEV, bound)
    options = f"newinstance,ptmxmode=0666,mode=620,max={TERMINALS}"
    _mount("devpts", _name(terminals), "devpts", MS_NOSUID | MS_NOEXEC, options)
    for target, name in (
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        *((f"fd/{number}", stream) for number, stream in enumerate(("stdin", "stdout", "stderr"))),
    ):
        _link(root, f"/dev/{name}", target)


def bound_segments(size: int) -> bool:
    """Bound the System V memory of our own namespace; answer whether the kernel lets its owner (Linux 5.19)."""
    try:
        with open("/proc/sys/kernel/shmall", "w") as pages:
            pages.write(str(size // os.sysconf("SC_PAGE_SIZE")))
    except OSError:
        return False
    return True


def _open(path: str, root: int | None = None) -> int:
    """Descriptor of a path of the host, or of the new root, that leads through no symbolic link."""
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    base, name = (AT_FDCWD, path) if root is None else (root, path[1:] or ".")
    return _check(_libc.syscall(SYS_OPENAT2, base, os.fsencode(name), how, ctypes.c_size_t(len(how))), path)


def _is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def _name(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _mount_point(root: int, path: str, *, folder: bool) -> int:
    """Descriptor of ``path`` in the new root, which is made where it is missing; only possible in private folders."""
    try:
        return _open(path, root)
    except FileNotFoundError:
        parent, _, name = path.rpartition("/")
        above = _mount_point(root, parent, folder=True) if parent else os.dup(root)
        if folder:
            os.mkdir(name, 0o755, dir_fd=above)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o444, dir_fd=above))
        os.close(above)
        return _open(path, root)


def _link(root: int, path: str, target: str) -> None:
    above = _mount_point(root, path.rpartition("/")[0] or "/", folder=True)
    try:
        os.symlink(target, path.rpartition("/")[2], dir_fd=above)
    except FileExistsError:  # below something that is there
        pass
    finally:
        os.close(above)


def _mount(source: str, path: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (os.fsencode(word) for word in (source, path, kind))
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), path)


def _bind(source: int, point: int) -> None:
    _mount(_name(source), _name(point), "", MS_BIND | MS_REC)
    os.close(point)


def _restrict(root: int, path: str, flags: int, *, recursive: bool = True) -> None:
    """Set flags of what is mounted at ``path``: with the numbers of ``mount``."""
    place, wanted = _open(path, root), struct.pack("QQQQ", flags, 0, 0, 0)
    how = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _check(_libc.syscall(SYS_MOUNT_SETATTR, place, b"", how, wanted, ctypes.c_size_t(len(wanted))), path)
    os.close(place)


def landlock_version() -> int:
    """The version of Landlock this kernel offers; 0 without."""
    return max(
        0, int(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION))
    )


def restrict_reach(readable: list[str], writable: list[str], *, network: bool) -> None:
    """Let this process and its descendants open files below these paths only, and not connect to services.

    Asks for :func:`drop_privileges` before.
    Without a network of its own, a command must be able to connect to what it serves itself. So ephemeral ports are
    allowed; those with a fixed number, such as the broker's, are not.
    """
    version = landlock_version()
    if version < LANDLOCK_NEEDED:
        raise OSError(f"Landlock has version {version} here, {LANDLOCK_NEEDED} is needed")
    files = LANDLOCK_READ | LANDLOCK_WRITE | (LANDLOCK_IOCTL if version >= 5 else 0)  # noqa: PLR2004
    connect = 0 if network or version < 4 else LANDLOCK_CONNECT_TCP  # noqa: PLR2004
    attributes = struct.pack("QQQ", files, connect, LANDLOCK_SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]  # noqa: PLR2004
    size = ctypes.c_size_t(len(attributes))
    rules = _check(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0), "landlock")
    devices = [f"/dev/{name}" for name in (*DEVICES, "shm", "pts", "ptmx") if os.path.exists(f"/dev/{name}")]
    # Of other processes' files in there, the kernel shows those without secrets alone.
    for path in (*readable, "/proc"):
        _allow(rules, path, LANDLOCK_READ)
    for path in writable:
        _allow(rules, path, files)
    for path in devices:
        _allow(rules, path, files, follow=True)  # a container's /dev/ptmx is a link
    for port in _ephemeral_ports() if connect else ():
        _add_rule(rules, LANDLOCK_RULE_NET_PORT, struct.pack("QQ", connect, port), "landlock")
    _check(_libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)


def _ephemeral_ports() -> range:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as bounds:
        first, last = map(int, bounds.read().split())
    return range(first, last + 1)


def _allow(rules: int, path: str, rights: int, *, follow: bool = False) -> None:
    beneath = os.open(path, os.O_PATH) if follow else _open(path)
    if not _is_folder(beneath):
        rights &= LANDLOCK_FILE
    _add_rule(rules, LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", rights, beneath), path)
    os.close(beneath)


def _add_rule(rules: int, kind: int, rule: bytes, what: str) -> None:
    _check(_libc.syscall(SYS_LANDLOCK_ADD_RULE, rules, kind, rule, 0), what)
