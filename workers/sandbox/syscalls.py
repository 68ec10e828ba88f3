"""The system calls that a command is refused: a filter that the kernel keeps on it and on all that comes of it.

Imported by the launcher inside the sandbox, so standard library only. Where this has no table for the machine, there is
no filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Name -> number, on x86-64 and on 64-bit ARM.
NUMBERS = {
    "ioctl": (16, 29), "shmget": (29, 194), "clone": (56, 220), "kill": (62, 129), "fcntl": (72, 25),
    "ptrace": (101, 117), "rt_sigqueueinfo": (129, 138), "tkill": (200, 130), "tgkill": (234, 131),
    "unshare": (272, 97), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "memfd_create": (319, 279), "pidfd_send_signal": (424, 424), "clone3": (435, 435),
    "pidfd_getfd": (438, 438), "memfd_secret": (447, 447),
}  # fmt: skip
#: Machine -> its column above, and its name in a filter.
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
#: On x86-64, numbers from here on are those of another way to call.
X32 = 0x40000000
#: Argument that names the process: these end it, trace it, read it, or lower its limits.
AIMED = {
    "kill": 0, "tkill": 0, "tgkill": 0, "rt_sigqueueinfo": 0, "rt_tgsigqueueinfo": 0, "ptrace": 1, "prlimit64": 0,
    "process_vm_readv": 0, "process_vm_writev": 0,
}  # fmt: skip
#: Memory outside of all bounds (files without a name), and calls that name a process by a descriptor.
ABSENT = ("memfd_create", "memfd_secret", "pidfd_send_signal", "pidfd_getfd")
CLONE_NEWUSER = 0x10000000
F_SETOWN, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP = 8, 15, 0x8901, 0x8902
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
#: Instructions: load a word of the call, compare, answer.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]


def refuse(protected: Iterable[int], *, everyone: bool, segments: bool) -> bool:
    """Install the filter for this process and its descendants, and answer whether there is one for this machine.

    Refused is whatever is aimed at the ``protected`` processes, files without a name, and new user namespaces: as the
    root of one a command could mount file systems without a bound.

    Args:
        protected: Process ids.
        everyone: Whether signals to all processes are refused, too.
        segments: Whether System V memory is.

    Raises:
        OSError: The kernel refuses it.
    """
    machine = os.uname().machine
    if machine not in MACHINES:
        return False
    code = b"".join(
        struct.pack("HBBI", *each) for each in program(machine, protected, everyone=everyone, segments=segments)
    )
    instructions = ctypes.create_string_buffer(code)
    header = struct.pack("HP", len(code) // 8, ctypes.addressof(instructions))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "seccomp")
    return True


def program(machine: str, protected: Iterable[int], *, everyone: bool, segments: bool) -> list[Instruction]:
    """The filter's instructions: operation, jumps if true and if not, operand."""
    column, name = MACHINES[machine]
    pids = {pid for each in protected for pid in (each, -each)} | ({-1} if everyone else set())
    code = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, name), _answer(errno.ENOSYS), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, X32), _answer(errno.ENOSYS)]
    rules = {call: _if_argument(argument, _EQUAL, pids, errno.EPERM) for call, argument in AIMED.items()}
    rules |= {call: [_answer(errno.ENOSYS)] for call in (*ABSENT, *(["shmget"] if segments else []))}
    # The flags of the newer call are out of a filter's sight; the C library then makes the older one.
    rules["clone3"] = [_answer(errno.ENOSYS)]
    rules |= {call: _if_argument(0, _ANY_BIT, [CLONE_NEWUSER], errno.EPERM) for call in ("clone", "unshare")}
    # A file can be told to send signals, too: to a process that is named, or that is out of sight.
    owner = _if_argument(2, _EQUAL, pids, errno.EPERM)
    rules["fcntl"] = [
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_EQUAL, 0, 1, F_SETOWN_EX),
        _answer(errno.EINVAL),
        (_EQUAL, 0, len(owner), F_SETOWN),
        *owner,
        _ALLOWED,
    ]
    rules["ioctl"] = _if_argument(1, _EQUAL, [FIOSETOWN, SIOCSPGRP], errno.ENOTTY)
    for call, body in rules.items():
        whole = [*body, _ALLOWED]
        code += [(_EQUAL, 0, len(whole), NUMBERS[call][column]), *whole]
    return [*code, _ALLOWED]


_ALLOWED: Instruction = (_ANSWER, 0, 0, _ALLOW)


def _answer(number: int) -> Instruction:
    return _ANSWER, 0, 0, _REFUSE | number


def _if_argument(which: int, operation: int, values: Iterable[int], number: int) -> list[Instruction]:
    """Answer with an error if the low word of an argument is one of ``values``."""
    code: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS + 8 * which)]
    for value in values:
        code += [(operation, 0, 1, value & 0xFFFFFFFF), _answer(number)]
    return code
