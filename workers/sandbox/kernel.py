"""What the launcher asks of the Linux kernel and the standard library has no name for.

Imported by the launcher inside the sandbox, so standard library only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 1, 2, 4, 8, 4096, 16384
AT_RECURSIVE, MOUNT_ATTR_RDONLY = 0x8000, 1
PR_SET_CHILD_SUBREAPER, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = (
    36,
    24,
    38,
    47,
    4,
)
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
# The same numbers on every architecture: these calls are younger than the unified table.
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 442, 444, 445, 446
LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH, LANDLOCK_RULE_NET_PORT = 1, 1, 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

#: The first version of Landlock that can refuse to truncate files.
LANDLOCK_NEEDED = 3
#: All rights that change something, and the one that exists since version 5 (ioctl on devices).
LANDLOCK_WRITE, LANDLOCK_IOCTL = sum(1 << bit for bit in (1, *range(4, 15))), 1 << 15
#: Those of them that make sense for a single file: write, truncate, ioctl.
LANDLOCK_FILE = 1 << 1 | 1 << 14
#: Since version 4.
LANDLOCK_CONNECT_TCP = 2
#: Abstract sockets and signals stay inside, since version 6.
LANDLOCK_SCOPES = 3
#: Devices that anybody may write to.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int, what: str) -> int:
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return answer


def become_subreaper() -> None:
    """Become the parent of all descendants that lose theirs."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")


def drop_privileges() -> None:
    """Give up every capability, for good, and gain none by executing a program."""
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those the kernel does not know
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_libc.capset(struct.pack("II", LINUX_CAPABILITY_VERSION_3, 0), bytes(24)), "capset")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def raise_loopback() -> None:
    """Bring the loopback of a new network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        name = b"lo".ljust(16, b"\0")
        (flags,) = struct.unpack_from("H", fcntl.ioctl(anything, SIOCGIFFLAGS, name + bytes(24)), 16)
        fcntl.ioctl(anything, SIOCSIFFLAGS, name + struct.pack("H", flags | IFF_UP) + bytes(22))


def restrict_view(temporary: str, hidden: list[str], mounts: list[tuple[str, str, bool]]) -> None:
    """In a mount namespace of our own: make everything read-only but ``mounts`` that are to be written to.

    Args:
        temporary: What takes the place of ``/tmp``.
        hidden: What is covered.
        mounts: Source, path, and whether it may be written to; outer folders first.
    """
    # Opened before anything is covered, so that what is below a covered folder can be put there again.
    sources = [os.open(source, os.O_PATH) for source, _, _ in mounts]
    own = os.open(temporary, os.O_PATH)
    devices = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES if os.path.exists(f"/dev/{name}")}  # noqa: PTH110
    _set_read_only("/", read_only=True)
    _bind(own, "/tmp")  # noqa: S108 - this is what makes it private
    _set_read_only("/tmp", read_only=False)  # noqa: S108
    below = [path for path in hidden if path.startswith("/tmp/")]  # noqa: S108 - not there any more, so far
    for path in hidden:
        if path not in below:
            _cover(path, devices["null"])
    _make_devices(devices)
    for source, (_, path, writable) in zip(sources, mounts, strict=True):
        _make_mount_point(source, path)
        _bind(source, path)
        if writable:
            _set_read_only(path, read_only=False)
    for path in below:
        if os.path.exists(path):  # noqa: PTH110 - a mount has brought it back
            _cover(path, devices["null"])
    for descriptor in (own, *sources, *devices.values()):
        os.close(descriptor)


def _cover(path: str, null: int) -> None:
    if os.path.isdir(path):  # noqa: PTH112 - pathlib takes longer to import than all of this takes to run
        _mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV)
    else:
        _bind(null, path)


def _make_devices(devices: dict[str, int]) -> None:
    """A ``/dev`` with what programs need; as root, the host's would hold its disks."""
    _mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755")
    for name, source in devices.items():
        _make_mount_point(source, f"/dev/{name}")
        _bind(source, f"/dev/{name}")
    os.mkdir("/dev/shm")  # noqa: PTH102, S108 - this is what makes it private
    os.mkdir("/dev/pts")  # noqa: PTH102
    _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)  # noqa: S108
    _mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    for target, path in (
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        *((f"fd/{n}", s) for n, s in enumerate(("stdin", "stdout", "stderr"))),
    ):
        os.symlink(target, f"/dev/{path}")  # noqa: PTH211


def _make_mount_point(source: int, path: str) -> None:
    """Make ``path``, where it is missing, what can carry ``source``; only possible in private folders."""
    if os.path.exists(path):  # noqa: PTH110
        return
    folder = stat.S_ISDIR(os.fstat(source).st_mode)
    os.makedirs(path if folder else os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if not folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def _mount(source: str, path: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (os.fsencode(word) for word in (source, path, kind))
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), options.encode()), path)


def _bind(source: int, path: str) -> None:
    _mount(f"/proc/self/fd/{source}", path, "", MS_BIND | MS_REC)


def _set_read_only(path: str, *, read_only: bool) -> None:
    wanted = struct.pack("QQQQ", *((MOUNT_ATTR_RDONLY, 0) if read_only else (0, MOUNT_ATTR_RDONLY)), 0, 0)
    answer = _libc.syscall(SYS_MOUNT_SETATTR, -1, os.fsencode(path), AT_RECURSIVE, wanted, ctypes.c_size_t(len(wanted)))
    _check(answer, path)


def landlock_version() -> int:
    """The version of Landlock this kernel offers; 0 without."""
    return max(
        0, int(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_CREATE_RULESET_VERSION))
    )


def restrict_reach(writable: list[str], *, network: bool) -> None:
    """Let this process and its descendants change files below ``writable`` only, and not connect to services.

    Asks for :func:`drop_privileges` before.
    Without a network of its own, a command must be able to connect to what it serves itself. So ephemeral ports are
    allowed; those with a fixed number, such as the broker's, are not.
    """
    version = landlock_version()
    if version < LANDLOCK_NEEDED:
        raise OSError(f"Landlock has version {version} here, {LANDLOCK_NEEDED} is needed")
    files = LANDLOCK_WRITE | (LANDLOCK_IOCTL if version >= 5 else 0)  # noqa: PLR2004
    connect = 0 if network or version < 4 else LANDLOCK_CONNECT_TCP  # noqa: PLR2004
    attributes = struct.pack("QQQ", files, connect, LANDLOCK_SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]  # noqa: PLR2004
    size = ctypes.c_size_t(len(attributes))
    rules = _check(_libc.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0), "landlock")
    for path in (*writable, *(f"/dev/{name}" for name in (*DEVICES, "shm", "pts", "ptmx"))):
        if os.path.exists(path):  # noqa: PTH110
            _allow_writes(rules, path, files)
    for port in _ephemeral_ports() if connect else ():
        _add_rule(rules, LANDLOCK_RULE_NET_PORT, struct.pack("QQ", connect, port), "landlock")
    _check(_libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)


def _ephemeral_ports() -> range:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as bounds:  # noqa: PTH123
        first, last = map(int, bounds.read().split())
    return range(first, last + 1)


def _allow_writes(rules: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH)
    if not os.path.isdir(path):  # noqa: PTH112
        rights &= LANDLOCK_FILE | LANDLOCK_IOCTL
    _add_rule(rules, LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", rights, beneath), path)
    os.close(beneath)


def _add_rule(rules: int, kind: int, rule: bytes, what: str) -> None:
    _check(_libc.syscall(SYS_LANDLOCK_ADD_RULE, rules, kind, rule, 0), what)
