"""The sandbox against code that wants out: files, secrets, the launcher's channel, memory, and what would survive it.

Each canary lies in a folder of its test's own.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.workers.confined import AMONG_OTHERS, AVAILABLE, CONFINING, PRIVATE, eventually, processes, python
from tta_tasks.errors import SandboxError
from tta_tasks.protocols import Limits
from tta_tasks.settings import settings
from workers.sandbox import ProcessSandbox, orphans, supervisor, syscalls, tempdirs
from workers.sandbox.supervisor import MAX_ANSWER, Supervisor, Tail
from workers.sandbox.view import PYTHON, look

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is promised elsewhere is in test_sandbox.py")

CANARY = "the canary"
READ = """
import os, sys
for path in sys.argv[1:]:
    try:
        print(open(path).read())
    except OSError as error:
        print(error.strerror)
    try:
        print(os.listdir(path))
    except OSError as error:
        pass
"""


@pytest.fixture(params=["/var/tmp", "/tmp"])  # noqa: S108 - a folder of its own is made there
def outside(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the host with a canary in it, and one where a test's command may work."""
    with tempfile.TemporaryDirectory(dir=request.param) as folder:
        (Path(folder) / "canary").write_text(CANARY)
        (Path(folder) / "work").mkdir()
        yield Path(folder)


def read(level: str, work: Path, *paths: Path, readable: Sequence[Path] = (), env: dict[str, str] | None = None) -> str:
    """What a command at ``level`` can read of ``paths``."""
    argv: list[str | Path] = [sys.executable, "-c", READ, *paths]
    done = ProcessSandbox(level).run(argv, cwd=work, writable=[work], readable=readable, env=env)
    assert done.ok, done.stderr
    return done.stdout


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", CONFINING)
def test_what_is_not_listed_is_not_there(level: str, outside: Path) -> None:
    """No word of a command opens a path to it, nor does its environment."""
    canary = outside / "canary"
    said = read(level, outside / "work", canary, outside, env={"PYTHONPATH": f"{canary}:{outside}", "A": str(canary)})
    assert CANARY not in said
    assert "canary" not in said


@pytest.mark.parametrize("level", CONFINING)
def test_what_an_operator_lists_is_there(level: str, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``TTA_SANDBOX_READABLE`` opens files and folders, for reading only."""
    monkeypatch.setenv("TTA_SANDBOX_READABLE", f"{outside}/canary:{outside}/absent")
    settings.cache_clear()
    assert CANARY in read(level, outside / "work", outside / "canary")
    assert not ProcessSandbox(level).run(["sh", "-c", f"> {outside}/canary"], cwd=outside / "work").ok


@pytest.mark.parametrize("level", CONFINING)
def test_an_environment_of_foreign_making_opens_nothing(level: str, outside: Path) -> None:
    """What looks like a virtual environment, and whose interpreter is a link, shows nothing of where that leads."""
    environment = outside / "work" / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("")
    (environment / "bin" / "python").symlink_to(outside / "canary")
    (environment / "bin" / "python3").symlink_to(outside)
    script = environment / "bin" / "true"
    script.symlink_to("/bin/true")
    assert ProcessSandbox(level).run([script], cwd=outside / "work", readable=[environment]).ok
    said = read(level, outside / "work", environment / "bin" / "python", environment / "bin" / "python3" / "canary")
    assert CANARY not in said


@pytest.mark.parametrize("level", AVAILABLE)
def test_a_link_on_the_way_to_what_is_opened_is_refused(level: str, outside: Path) -> None:
    """A folder within a tree that a command may write to is not opened where it has become a link."""
    tree = outside / "work" / "tree"
    tree.mkdir()
    (tree / "tests").symlink_to(outside)
    with pytest.raises(SandboxError, match="is a link"):
        ProcessSandbox(level).run(["true"], cwd=tree, writable=[tree / "tests"], readable=[tree])


@pytest.mark.parametrize("level", CONFINING)
def test_a_folder_that_turns_into_a_link_meanwhile_is_refused(
    level: str, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where it becomes one between the look and the mount."""
    if level == "bubblewrap":
        pytest.skip("it takes paths, not descriptors: see docs/explanation/threat-model.md")
    tree = outside / "work" / "tree"
    (tree / "tests").mkdir(parents=True)

    def swapped(*arguments: object, **options: object) -> object:
        view = look(*arguments, **options)  # type: ignore[arg-type]
        (tree / "tests").rmdir()
        (tree / "tests").symlink_to(outside)
        return view

    monkeypatch.setattr("workers.sandbox.process.look", swapped)
    with pytest.raises(SandboxError, match="Too many levels of symbolic links"):
        ProcessSandbox(level).run(["true"], cwd=tree, writable=[tree / "tests"], readable=[tree])


@pytest.mark.parametrize("level", CONFINING)
def test_state_and_secrets_are_in_no_view(level: str, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The product's state, files of secrets, and keys in the home folder are covered where they lead.

    So they are below a folder that is to be read; what is listed below them is there again.
    """
    work = outside / "work"
    for folder in ("state", "keys", "cache/environments/key", "cache/other"):
        (outside / folder).mkdir(parents=True)
        (outside / folder / "file").write_text(CANARY)
    (outside / "password").write_text(CANARY)
    (outside / ".ssh").symlink_to(outside / "keys")
    for name, value in {
        "HOME": outside,
        "TTA_STATE_DIR": outside / "state",
        "TTA_CACHE_DIR": outside / "cache",
        "TTA_BROKER_URL_FILE": outside / "password",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("tta_tasks.secretfiles.read", lambda _name: "")
    settings.cache_clear()
    secret = [outside / name for name in ("state/file", "keys/file", ".ssh/file", "password", "cache/other/file")]
    readable = [outside, outside / "cache" / "environments" / "key"]
    (outside / "canary").write_text("plain")
    shown = [outside / "canary", outside / "cache/environments/key/file"]
    said = read(level, work, *secret, readable=readable)
    assert CANARY not in said
    said = read(level, work, *shown, readable=readable)
    assert "plain" in said
    assert CANARY in said
    with pytest.raises(SandboxError, match="open to no command"):
        read(level, work, readable=[outside / "keys"])


@pytest.mark.parametrize("level", CONFINING)
def test_usual_places_of_secrets_are_out_of_sight(level: str, tmp_path: Path) -> None:
    """Neither the home folder, nor what services and other users keep, can be listed."""
    home = Path.home()
    for place in (home, Path("/run"), Path("/srv"), Path("/var"), Path("/home"), Path("/etc/shadow"), Path("/")):
        said = read(level, tmp_path, place)
        if place == Path("/") and level in PRIVATE:
            assert {"run", "srv", "home", "boot", "media", "mnt"}.isdisjoint(said.split("'"))
            continue
        if place == home and any(home in Path(path).parents for path in (sys.prefix, sys.base_prefix)):
            continue  # its other entries are not shown: the next test
        assert "[" not in said, place


@pytest.mark.parametrize("level", CONFINING)
def test_beside_our_own_installation_nothing_is_shown(level: str, tmp_path: Path) -> None:
    """The interpreter's folder is there, wherever it is; its neighbours are not."""
    beside = Path(sys.prefix).parent / f"canary-{uuid.uuid4().hex}"
    beside.write_text(CANARY)
    try:
        assert CANARY not in read(level, tmp_path, beside)
    finally:
        beside.unlink()


# -- sockets, pipes, locks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", CONFINING)
def test_pipes_and_locks_of_the_host_are_out_of_reach(level: str, outside: Path) -> None:
    """No command holds a lock of ours, or writes to a pipe: it can open neither, not even for reading."""
    os.mkfifo(outside / "pipe")
    reader = os.open(outside / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    program = """
import fcntl, os, sys
for path, mode in ((sys.argv[1], os.O_WRONLY | os.O_NONBLOCK), (sys.argv[2], os.O_RDONLY)):
    try:
        fcntl.flock(os.open(path, mode), fcntl.LOCK_SH | fcntl.LOCK_NB)
        print("open")
    except OSError as error:
        print(error.errno)
"""
    try:
        done = python(ProcessSandbox(level), program, outside / "pipe", outside / "canary", cwd=outside / "work")
    finally:
        os.close(reader)
    assert set(done.stdout.split()) <= {str(errno.ENOENT), str(errno.EACCES)}


@pytest.mark.parametrize("level", CONFINING)
def test_the_lock_of_its_own_folder_is_out_of_reach(level: str, tmp_path: Path) -> None:
    """While a command runs nobody can take its temporary folder for one that is left over."""
    program = """
import fcntl, os, pathlib, sys
found = [path for path in pathlib.Path(sys.argv[1]).glob("*.lock")] if os.path.isdir(sys.argv[1]) else []
found += pathlib.Path(os.environ["TMPDIR"]).parent.glob("*.lock")
for path in [*found, os.environ["TMPDIR"] + ".lock"]:
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
        print("locked")
    except OSError:
        pass
"""
    folder = Path(tempfile.gettempdir()).resolve() / f"tta-sandbox-{os.getuid()}"
    with tempdirs.create(folder):
        done = python(ProcessSandbox(level), program, folder, cwd=tmp_path)
    assert (done.ok, done.stdout) == (True, ""), done.stderr


@pytest.mark.parametrize("level", PRIVATE)
def test_unix_sockets_of_the_host_are_out_of_reach(level: str, outside: Path) -> None:
    """A service that listens in a folder of the host is not there for a command; nor is an abstract one."""
    name = uuid.uuid4().hex
    program = """
import socket, sys
for address in (sys.argv[1], "\\0" + sys.argv[2]):
    try:
        socket.socket(socket.AF_UNIX).connect(address)
        print("connected")
    except OSError:
        pass
"""
    with socket.socket(socket.AF_UNIX) as service, socket.socket(socket.AF_UNIX) as abstract:
        service.bind(str(outside / "socket"))
        abstract.bind(f"\0{name}")
        service.listen()
        abstract.listen()
        done = python(ProcessSandbox(level), program, outside / "socket", name, cwd=outside / "work")
    assert (done.ok, done.stdout) == (True, ""), done.stderr


# -- the launcher and its channel -------------------------------------------------------------------------------------

LAUNCHER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def launcher():
    return os.getppid()
"""


@pytest.mark.parametrize("level", AVAILABLE)
def test_the_channel_cannot_be_taken(level: str, tmp_path: Path) -> None:
    """The launcher can neither be traced nor looked into, and gives no descriptor away."""
    program = f"""{LAUNCHER}
got = []
pid = launcher()
if libc.ptrace(16, pid, 0, 0) == 0: got.append("ptrace attach")
if libc.ptrace(0x4206, pid, 0, 0) == 0: got.append("ptrace seize")
handle = libc.syscall(434, pid, 0)
for number in range(3, 20):
    if handle >= 0 and libc.syscall(438, handle, number, 0) >= 0: got.append("pidfd_getfd")
for place in ("mem", "environ", "maps", "task/%d/mem" % pid, "cwd/etc/passwd", "root/etc/passwd", "exe"):
    try:
        if open("/proc/%d/%s" % (pid, place), "rb").read(1): got.append(place)
    except OSError:
        pass
for number in range(20):
    try:
        os.readlink("/proc/%d/fd/%d" % (pid, number))
        got.append(number)
    except OSError:
        pass
print(got)
"""
    done = python(ProcessSandbox(level), program, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("level", AVAILABLE)
def test_a_launcher_survives_what_its_command_can_do(level: str, tmp_path: Path) -> None:
    """A command that tries all ways to end or stop its launcher leaves no daemon, whichever way it ends itself."""
    marker = tmp_path / uuid.uuid4().hex
    program = f"""{LAUNCHER}
import fcntl, resource, signal, struct, time
pid = launcher()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(300)
    os._exit(0)
def through_a_file():
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reader, 10, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")
def through_a_larger_owner():
    reader, writer = os.pipe()
    fcntl.fcntl(reader, 15, struct.pack("ii", 1, pid))
    fcntl.fcntl(reader, 10, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")
def through_its_folder():
    folder = os.open("/proc/%d" % pid, os.O_RDONLY)
    if libc.syscall(424, folder, 9, 0, 0): raise OSError(ctypes.get_errno())
def through_its_limits():
    resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0))
for number in (signal.SIGSTOP, signal.SIGKILL):
    for attempt in (
        lambda: os.kill(pid, number),
        lambda: os.killpg(pid, number),
        lambda: signal.pidfd_send_signal(os.pidfd_open(pid), number),
        lambda: libc.syscall(200, pid, number),
        lambda: libc.syscall(234, pid, pid, number),
        lambda: libc.syscall(129, pid, number, ctypes.create_string_buffer(128)),
        through_its_folder,
        through_a_file,
        through_a_larger_owner,
        through_its_limits,
    ):
        try:
            attempt()
        except OSError:
            pass
time.sleep(0.2)
print("alive" if os.getppid() == pid else "orphaned")
sys.exit(3)
"""
    done = python(ProcessSandbox(level), program, marker, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("alive\n", 3), done.stderr
    assert eventually(lambda: processes(marker) == [])


@pytest.mark.parametrize("level", AMONG_OTHERS)
def test_everyone_is_not_signalled(level: str, tmp_path: Path) -> None:
    """A command that signals all processes it may reaches none beside its own."""
    with subprocess.Popen(["/bin/sleep", "300"]) as other:
        done = python(ProcessSandbox(level), f"import os; os.kill(-1, {signal.SIGCONT:d})", cwd=tmp_path)
        other.kill()
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("level", AMONG_OTHERS)
def test_what_loses_its_launcher_is_ended(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel ends a launcher for want of memory, nothing outlives it, no daemon either."""
    monkeypatch.setattr(supervisor, "POLL_S", 0.05)
    marker = tmp_path / uuid.uuid4().hex
    program = """
import os, sys, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
open(sys.argv[1], "w").write(str(os.getppid()))
time.sleep(300)
"""
    own = subprocess.Popen(["/bin/sleep", "300"])

    def end_launcher() -> bool:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(marker.read_text()), signal.SIGKILL)
        return False

    done = ProcessSandbox(level).run(
        [sys.executable, "-c", program, marker],
        cwd=tmp_path,
        writable=[tmp_path],
        limits=Limits(wall_s=30),
        cancelled=end_launcher,
    )
    try:
        assert (done.returncode, done.stopped) == (-signal.SIGKILL, None)
        assert processes(marker) == []
        assert own.poll() is None, "a child of ours was taken for an orphan"
    finally:
        own.kill()
        own.wait()


@pytest.mark.parametrize(
    "answer",
    [
        "b'x' * (400 << 20)",
        "b'status 0\\n' * (16 << 20)",
        "b'status none\\n'",
        "b'status 1e300\\n'",
        "b'status 256\\n'",
        "b'status ' + b'9' * 4000 + b'\\n'",
        "b'started -1\\n'",
        "b'started 1\\n'",
        "b'\\xff\\n'",
        "b'status 0\\nmore 1\\n'",
        """b'{"status": 0}\\n'""",
    ],
)
def test_answers_are_bounded(answer: str, tmp_path: Path) -> None:
    """Whatever comes through the channel in place of a launcher's answer is an error, and takes no memory."""
    program = f"""
import socket, sys
channel = socket.socket(fileno=int(sys.argv[1]))
channel.recv(1)
try:
    channel.sendall({answer})
except OSError:
    pass
"""
    tails = Tail(1000), Tail(1000)
    argv = [str(PYTHON), "-c", program, "{channel}"]
    with Supervisor(argv, env={}, job={"cwd": str(tmp_path)}, stdin="", tails=tails) as watched:
        watched.watch(30, None)
    with pytest.raises(SandboxError):
        watched.returncode(None)
    assert len(watched._answer) <= 2 * MAX_ANSWER


# -- memory -----------------------------------------------------------------------------------------------------------

FILL = """
import os, sys
written = 0
try:
    for number in range(100):
        with open(f"{sys.argv[1]}/fill-{number}", "wb", buffering=0) as file:
            for _ in range(16):
                written += file.write(bytes(1 << 20))
except OSError as error:
    print(error.strerror)
print(written)
"""


@pytest.mark.parametrize("place", ["/dev/shm", "/dev", "/dev/pts", "/", "/etc", "/proc", "/usr"])  # noqa: S108 - private
@pytest.mark.parametrize("level", PRIVATE)
def test_file_systems_in_memory_are_bounded(level: str, place: str, tmp_path: Path) -> None:
    """Shared memory is bounded, the rest of what is made for a view cannot be written to."""
    limits = Limits(memory_bytes=256 << 20)
    done = python(ProcessSandbox(level), FILL, place, cwd=tmp_path, limits=limits)
    reason, written = done.stdout.splitlines()
    assert int(written) <= (256 << 20 if place == "/dev/shm" else 0), reason  # noqa: S108


@pytest.mark.parametrize("level", AVAILABLE)
def test_memory_outside_of_all_bounds_is_refused(level: str, tmp_path: Path) -> None:
    """There are no files without a name, no namespaces with file systems of a command's own, no memory that stays."""
    program = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
try:
    os.memfd_create("canary")
    print("memfd")
except OSError:
    pass
if libc.unshare(0x10000000) == 0: print("user namespace")
segment = libc.shmget(0, ctypes.c_size_t(2 << 30), 0o1600)
if segment >= 0: print("segment"); libc.shmctl(segment, 0, None)
"""
    done = python(ProcessSandbox(level), program, cwd=tmp_path)
    assert (done.stdout, done.ok) == ("", True), done.stderr
    assert not ProcessSandbox(level).run(["unshare", "--user", "--map-root-user", "true"], cwd=tmp_path).ok


# -- the filter -------------------------------------------------------------------------------------------------------


def answer(machine: str, number: int, arguments: Sequence[int] = (), *, name: int = 0, everyone: bool = True) -> int:
    """What the filter answers to a call: 0, or an error's number."""
    code = syscalls.program(machine, [100], everyone=everyone, segments=everyone)
    words = {0: number, 4: name or syscalls.MACHINES[machine][1]}
    words |= {16 + 8 * place: value & 0xFFFFFFFF for place, value in enumerate(arguments)}
    at, word = 0, 0
    while True:
        operation, true, false, operand = code[at]
        if operation == 0x06:
            return 0 if operand == 0x7FFF0000 else operand & 0xFFFF
        if operation == 0x20:
            word = words.get(operand, 0)
            at += 1
            continue
        holds = {0x15: word == operand, 0x35: word >= operand, 0x45: bool(word & operand)}[operation]
        at += 1 + (true if holds else false)


@pytest.mark.parametrize("machine", syscalls.MACHINES)
def test_the_filter_reads_the_same_on_every_machine(machine: str) -> None:
    """It refuses what is aimed at a protected process, and lets pass what is not."""
    column = syscalls.MACHINES[machine][0]
    numbers = {call: both[column] for call, both in syscalls.NUMBERS.items()}
    for call, place in syscalls.AIMED.items():
        for pid in (100, -100, -1):
            assert answer(machine, numbers[call], [*[0] * place, pid]) == errno.EPERM, call
        assert answer(machine, numbers[call], [*[0] * place, 101]) == 0, call
        assert answer(machine, numbers[call], [*[0] * place, 0]) == 0, call
    assert answer(machine, numbers["fcntl"], [3, syscalls.F_SETOWN, 100]) == errno.EPERM
    assert answer(machine, numbers["fcntl"], [3, syscalls.F_SETOWN, 101]) == 0
    assert answer(machine, numbers["fcntl"], [3, syscalls.F_SETOWN_EX, 0]) == errno.EINVAL
    assert answer(machine, numbers["fcntl"], [3, fcntl.F_GETFL, 100]) == 0
    assert answer(machine, numbers["ioctl"], [3, syscalls.FIOSETOWN]) == errno.ENOTTY
    assert answer(machine, numbers["ioctl"], [3, 0x5401]) == 0
    assert answer(machine, numbers["clone"], [0x10000011]) == errno.EPERM
    assert answer(machine, numbers["clone"], [0x00000011]) == 0
    assert answer(machine, numbers["clone3"]) == errno.ENOSYS
    assert answer(machine, numbers["shmget"]) == errno.ENOSYS
    assert answer(machine, numbers["shmget"], everyone=False) == 0
    assert answer(machine, numbers["kill"], [-1], everyone=False) == 0
    assert answer(machine, 0, name=0x40000003) == errno.ENOSYS, "a call as 32-bit programs make it"


def test_orphans_are_told_from_children() -> None:
    """A process of ours carries no more filters than we do, and is no orphan."""
    with subprocess.Popen(["/bin/sleep", "300"]) as own:
        assert own.pid not in set(orphans._adopted())
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        orphans.end()
        assert own.poll() is None
        own.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process can adopt")
def test_a_worker_adopts_only_while_a_command_runs() -> None:
    """What others leave behind later is the system's to reap; adopted, it would fill the table of a long life."""
    program = """
import os, subprocess, sys, time
from pathlib import Path
from workers.sandbox import ProcessSandbox
assert ProcessSandbox("process-group").run(["true"], cwd=Path("/")).ok
child = subprocess.Popen(["sh", "-c", "sleep 0.2 & echo $!"], stdout=subprocess.PIPE, text=True)
orphan = child.communicate()[0].strip()
print(Path(f"/proc/{orphan}/stat").read_text().rpartition(")")[2].split()[1] if Path(f"/proc/{orphan}").exists() else 0,
      os.getpid())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    parent, own = done.stdout.split()
    assert parent != own
