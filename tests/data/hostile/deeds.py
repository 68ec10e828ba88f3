"""What hostile code does. Copied into hostile trees as ``deeds.py``; standard library only, and nothing here ever fails.

Deeds aim at the example's own tree, at what is given to it, and at canaries that the harness has made for the batch.
Those that could hurt somebody else if there were no sandbox (signals to whoever is there) are done in a process
namespace of their own only: ``HOST`` names the harness's.
"""

import contextlib
import fcntl
import glob
import io
import json
import os
import shutil
import signal
import socket
import stat
import sys
import time

HOST = ""
#: A pipe that all commands may see: what is written to it tells that hostile code ran, as what never ran must not count.
MARK = ""


def do(plan):
    """Do each ``[name, argument, ...]`` of ``plan``; whatever goes wrong with one, go on with the next."""
    with contextlib.suppress(OSError):
        descriptor = os.open(MARK, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, b"x")
        os.close(descriptor)
    for name, *arguments in plan:
        try:
            globals()[f"deed_{name}"](*arguments)
        except Exception:
            pass


def open(path, mode="r", **how):
    """As Python's own, but waiting for nobody: who reads from a pipe that nobody writes to is stuck, and does no more."""
    return io.open(path, mode, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o666), **how)


def _read(path):
    with open(path, "rb", buffering=0) as file:
        return (file.read(1 << 20) or b"").decode(errors="replace")


def _isolated():
    return bool(HOST) and os.readlink("/proc/self/ns/pid") != HOST


def _away(path):
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)


# -- the tree ----------------------------------------------------------------------------------------------------------


def deed_link(victim, target):
    _away(victim)
    os.symlink(target, victim)


def deed_hard_link(victim, target):
    _away(victim)
    os.link(target, victim, follow_symlinks=False)


def deed_fifo(victim):
    _away(victim)
    os.mkfifo(victim)


def deed_socket(victim):
    _away(victim)
    os.chdir(os.path.dirname(victim))  # a socket's name must be short
    socket.socket(socket.AF_UNIX).bind(os.path.basename(victim))


def deed_folder(victim):
    _away(victim)
    os.makedirs(victim)


def deed_sparse(victim, size):
    _away(victim)
    with open(victim, "wb") as file:
        file.truncate(size)


def deed_text(victim, text):
    _away(victim)
    with open(victim, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)


def deed_append(victim, text):
    with open(victim, "a", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)


def deed_deep(folder, depth):
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")


def deed_chmod(victim, mode):
    os.chmod(victim, mode)


def deed_delete(victim):
    _away(victim)


def deed_plant(folder, name):
    """Leave what an interpreter or tool would run later."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as file:
        file.write("import os; os.environ['PLANTED'] = '1'\n")


def deed_swap(victim, target, seconds):
    """Alternate between a file and a link, as one who races with a reader."""
    with open(victim, "rb") as file:
        content = file.read(1 << 20)
    if os.fork():
        return
    os.setsid()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            os.symlink(target, victim + ".n")
            os.replace(victim + ".n", victim)
            with open(victim + ".n", "wb") as file:
                file.write(content)
            os.replace(victim + ".n", victim)
    os._exit(0)


# -- canaries ----------------------------------------------------------------------------------------------------------


def deed_overwrite(canary):
    with open(canary, "w") as file:
        file.write("owned")


def deed_unlink(canary):
    os.unlink(canary)


def deed_rename(canary):
    os.rename(canary, canary + ".gone")


def deed_create(folder):
    with open(os.path.join(folder, "owned"), "w") as file:
        file.write("owned")


def deed_touch(canary):
    os.utime(canary, (0, 0))


def deed_chmod_canary(canary):
    os.chmod(canary, 0o777)


def deed_remount(folder):
    """Cover or uncover what is mounted, where that is possible at all; in a mount namespace of its own only."""
    if not _isolated():
        return
    os.system(f"umount {folder} 2>/dev/null; mount -o remount,rw,bind / 2>/dev/null; "
              f"mount -o remount,rw / 2>/dev/null; echo owned > {folder}/owned 2>/dev/null")


def deed_steal(secret, into):
    """Read a secret; show it in every way a result could carry it away."""
    _show(_read(secret), into)


def deed_steal_all(pattern, into):
    if pattern.startswith("/proc") and not _isolated():
        return  # to read from somebody's pipe is to take it away
    for path in glob.glob(pattern, recursive=True)[:50]:
        with contextlib.suppress(OSError):
            _show(_read(path), into)


def deed_environment(into):
    said = [json.dumps(dict(os.environ))]
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") if _isolated() else ():
        with contextlib.suppress(OSError):
            said.append(_read(path))
    _show("\n".join(said), into)


def deed_descriptors(into):
    """What was left open for us."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                _show(os.pread(descriptor, 1 << 16, 0).decode(errors="replace"), into)


def deed_roots(secret, into):
    """By way of other processes' roots and folders."""
    for root in glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd") if _isolated() else ():
        with contextlib.suppress(OSError):
            _show(_read(root + secret), into)


def deed_environment_folder(folder, link):
    """Pretend to be a virtual environment, whose interpreter is what shall be shown."""
    os.makedirs(os.path.join(folder, "bin"), exist_ok=True)
    with open(os.path.join(folder, "pyvenv.cfg"), "w") as file:
        file.write("home = /usr/bin\n")
    os.symlink(link, os.path.join(folder, "bin", "python3"))


def _show(text, into):
    print(text)
    print(text, file=sys.stderr)
    for path in into:
        with contextlib.suppress(OSError), open(path, "a") as file:
            file.write("".join(f"\n# {line}" for line in text.splitlines()) + "\n")


# -- processes, descriptors, network -----------------------------------------------------------------------------------


def deed_connect(port):
    with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(b"owned")


def deed_connect_unix(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(path)
        client.sendall(b"owned")


def deed_daemon(canary, seconds):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.2)
        with contextlib.suppress(OSError), open(canary, "a") as file:
            file.write("owned")
    os._exit(0)


def deed_kill_parent():
    if _isolated():
        os.kill(os.getppid(), signal.SIGKILL)


def deed_kill_all():
    if _isolated():
        os.kill(-1, signal.SIGKILL)


def deed_stop_parent():
    if _isolated():
        os.kill(os.getppid(), signal.SIGSTOP)


def deed_exit(status):
    os._exit(status)


def deed_leave(status):
    sys.exit(status)  # an Exception is forgiven above; this is none


def deed_abort():
    os.abort()


def deed_close_all():
    os.closerange(3, 256)


def deed_mute():
    os.close(1)
    os.close(2)


def deed_flood(megabytes):
    for _ in range(megabytes):
        os.write(1, b"x" * (1 << 20))


def deed_say(text):
    data = text.encode(errors="surrogatepass")
    os.write(1, data + b"\n")
    os.write(2, data + b"\n")


def deed_lock(path):
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def deed_sleep(seconds):
    time.sleep(seconds)


# -- answers that the worker reads --------------------------------------------------------------------------------------


def deed_forge(payload):
    """Say something on each descriptor that was not closed, and in each journal that can be found."""
    data = payload.encode(errors="surrogatepass")
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISDIR(mode):
                os.set_blocking(descriptor, False)
                os.write(descriptor, data)
    for path in _journals():
        with contextlib.suppress(OSError), open(path, "ab") as file:
            file.write(data)


def deed_usurp(what, target):
    """Put something else in place of each journal that can be found."""
    for path in _journals():
        with contextlib.suppress(OSError):
            os.unlink(path)
            if what == "fifo":
                os.mkfifo(path)
            elif what == "link":
                os.symlink(target, path)
            elif what == "folder":
                os.mkdir(path)
            elif what == "sparse":
                with open(path, "wb") as file:
                    file.truncate(64 << 30)


def _journals():
    """Files that a worker may have named to this process, or put beside its program."""
    named = [word for word in sys.argv if word.startswith("/")]
    for path in list(named):
        with contextlib.suppress(Exception):
            told = json.loads(_read(path))
            named += [word for word in told.values() if isinstance(word, str) and word.startswith("/")]
    folders = {path if os.path.isdir(path) else os.path.dirname(path) for path in named}
    found = set()
    for folder in folders:
        if folder.count("/") > 2:
            found |= {path for path in glob.glob(folder + "/*") if not path.endswith(".py") and not os.path.isdir(path)}
    return [path for path in found if "/bin/" not in path and "/lib/" not in path]


# -- what a builder delivers -------------------------------------------------------------------------------------------


def deliver(folder, name, door, target):
    """Put the wheel that lies in the tree into ``folder``, or what takes its place."""
    path = os.path.join(folder, name)
    if door in ("link", "zero"):
        os.symlink("/dev/zero" if door == "zero" else target, path)
    elif door == "fifo":
        os.mkfifo(path)
    elif door == "folder":
        os.mkdir(path)
    elif door == "sparse":
        with open(path, "wb") as file:
            file.truncate(900 << 20)
    elif door != "none":
        shutil.copyfile("wheel.bin", path)
        if door == "two":
            shutil.copyfile("wheel.bin", os.path.join(folder, "other-1-py3-none-any.whl"))
