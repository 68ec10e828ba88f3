"""What a hostile build can reach, and what it can hand over: nothing but a wheel, through one door.

Each attack is one that worked while builds had the network, the host's loopback and uv's shared cache.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import tarfile
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tta_tasks.errors import DeploymentFailed, EnvironmentFailed
from tta_tasks.models import Component, Module
from tta_tasks.protocols import Completed
from tta_tasks.settings import settings
from workers.component.wheels import Wheels
from workers.environment import VirtualEnvironment, prepare_environment
from workers.environment.wheel import BadWheel, read
from workers.openhands.installation import REQUIREMENTS
from workers.sandbox import detect_sandbox

COMPONENT = Component(name="parts", modules=(Module(name="parts", path="parts.py"),))
SETUPTOOLS = '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
#: A backend of the repository's own, which needs nothing.
OWN = (
    '[project]\nname = "parts"\nversion = "1"\n'
    '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
)
FILES = {
    "parts.py": "",
    "parts-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: parts\nVersion: 1\n",
    "parts-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: own\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "parts-1.dist-info/RECORD": "",
}

needs_a_view = pytest.mark.skipif(
    detect_sandbox().level not in {"bubblewrap", "namespaces"}, reason="commands here share the host's network"
)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A service of this host: its port, and who has connected."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_accept, args=(server, seen))
        thread.start()
        try:
            yield server.getsockname()[1], seen
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(server: socket.socket, seen: list[str]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, peer = server.accept()
            seen.append(str(peer))
            connection.close()


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(content))
    return root


def prepare(project: Path, cache: Path, component: Component = COMPONENT) -> VirtualEnvironment:
    return prepare_environment(project, component, sandbox=detect_sandbox(), cache=cache, progress=print)


def run(environment: VirtualEnvironment, program: str) -> Completed:
    command: list[str | Path] = [environment.python, "-c", textwrap.dedent(program)]
    return detect_sandbox().run(command, cwd=Path("/"), readable=environment.readable)


def summary(environment: VirtualEnvironment, name: str = "parts") -> str:
    """What the build of a distribution had to say."""
    return run(environment, f"import importlib.metadata as m; print(m.metadata({name!r})['Summary'])").stdout.strip()


def setup(program: str, name: str = "parts", modules: str = '["parts"]') -> str:
    """A ``setup.py`` that runs ``program`` and tells its ``outcome``."""
    call = (
        f"from setuptools import setup\nsetup(name={name!r}, version='1', py_modules={modules}, description=outcome)\n"
    )
    return textwrap.dedent(program) + call


CONNECT = """\
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 5).close()
    outcome = "connected"
except OSError:
    outcome = "refused"
"""


def wheel(files: dict[str, str]) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return into.getvalue()


def sdist(folder: Path, name: str, program: str) -> None:
    """Put a source archive into a folder that this worker takes packages from."""
    content = {
        "pyproject.toml": SETUPTOOLS,
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
        "setup.py": setup(program, name, "[]"),
    }
    with tarfile.open(folder / f"{name}-1.tar.gz", "w:gz") as archive:
        for file, text in content.items():
            info = tarfile.TarInfo(f"{name}-1/{file}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))


# -- what a build reaches ---------------------------------------------------------------------------------------------


@needs_a_view
def test_a_build_does_not_reach_this_host(tmp_path: Path, cache: Path, listener: tuple[int, list[str]]) -> None:
    """A ``setup.py`` that connects to a service on the loopback, as the broker is one, finds none."""
    port, seen = listener
    project = tree(tmp_path, {"pyproject.toml": SETUPTOOLS, "setup.py": setup(CONNECT.format(port=port))})
    assert summary(prepare(project, cache)) == "refused"
    assert seen == []


@needs_a_view
def test_a_build_for_deployment_does_not_reach_this_host(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]]
) -> None:
    """Nor does the build of the wheel that is released."""
    port, seen = listener
    project = tree(
        tmp_path / "tree",
        {"pyproject.toml": SETUPTOOLS, "setup.py": setup(CONNECT.format(port=port)), "parts.py": ""},
    )
    built = Wheels(cache, detect_sandbox()).build("a" * 64, project, COMPONENT, print)
    with zipfile.ZipFile(built) as archive:
        assert b"Summary: refused" in archive.read("parts-1.dist-info/METADATA")
    assert seen == []


@needs_a_view
def test_what_a_package_runs_at_start_does_not_reach_this_host(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package's ``.pth`` file runs with every start of the interpreter, but never with the network."""
    port, seen = listener
    links = tmp_path / "links"
    links.mkdir()
    files = {name.replace("parts", "starter"): text.replace("parts", "starter") for name, text in FILES.items()}
    line = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)\n"
    (links / "starter-1-py3-none-any.whl").write_bytes(wheel({**files, "starter.pth": line}))
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    table = '[project]\nname = "parts"\nversion = "1"\ndependencies = ["starter"]\n'
    project = tree(tmp_path / "project", {"pyproject.toml": SETUPTOOLS + table, "parts.py": ""})
    environment = prepare(project, cache)
    assert "starter" in run(environment, "import importlib.metadata as m; print(m.distribution('starter').name)").stdout
    assert seen == []


def test_a_build_sees_no_state(tmp_path: Path, cache: Path) -> None:
    """A folder that the build was not given, as the state folder is one, is not to be seen."""
    state = Path("/var/tmp") / f"tta-canary-{os.getpid()}"  # noqa: S108
    state.mkdir(mode=0o700)
    (state / "stack.json").write_text("password")
    program = f"""\
        import os
        outcome = "seen" if os.path.exists({str(state / "stack.json")!r}) else "nothing"
        """
    try:
        project = tree(tmp_path, {"pyproject.toml": SETUPTOOLS, "setup.py": setup(program)})
        assert summary(prepare(project, cache)) == "nothing"
    finally:
        shutil.rmtree(state)


@pytest.mark.slow
def test_a_dependency_cannot_change_what_others_install(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dependency's build that rewrites pytest wherever it can does not change the next component's pytest."""
    prepare(tree(tmp_path / "before", {"requirements.txt": "six>0.1"}), cache)  # so that pytest is in uv's cache
    links = tmp_path / "links"
    links.mkdir()
    program = f"""\
        import os
        outcome = "found nothing"
        for folder, _, names in os.walk({str(cache)!r}):
            if folder.endswith("/pytest") and "__init__.py" in names:
                try:
                    with open(folder + "/__init__.py", "a") as file:
                        file.write("POISONED = True\\n")
                    outcome = "poisoned"
                except OSError:
                    pass
        """
    sdist(links, "venomous", program)
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    first = prepare(tree(tmp_path / "first", {"requirements.txt": "venomous"}), cache)
    assert summary(first, "venomous") == "found nothing"
    second = prepare(tree(tmp_path / "second", {"requirements.txt": "six>0.2"}), cache)
    assert run(second, "import pytest; print(hasattr(pytest, 'POISONED'))").stdout == "False\n"


@pytest.mark.slow
def test_the_network_is_a_choice(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails without the network names the setting; with it, builds reach what this host reaches."""
    port, seen = listener
    program = CONNECT.format(port=port) + 'if outcome == "refused": raise SystemExit("cannot download")\n'
    project = tree(tmp_path, {"pyproject.toml": SETUPTOOLS, "setup.py": setup(program)})
    if detect_sandbox().level in {"bubblewrap", "namespaces"}:
        with pytest.raises(EnvironmentFailed, match=r"(?s)cannot download.*TTA_BUILD_NETWORK"):
            prepare(project, cache)
        assert seen == []
    monkeypatch.setenv("TTA_BUILD_NETWORK", "true")
    settings.cache_clear()
    try:
        assert summary(prepare(project, cache)) == "connected"
    finally:
        settings.cache_clear()
    assert seen


# -- what a repository may name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "--extra-index-url http://127.0.0.1:{port}/simple\nsix"},
        pytest.param({"requirements.txt": "-f http://127.0.0.1:{port}/links\nsix"}, marks=pytest.mark.slow),
        pytest.param(
            {
                "requirements.txt": "six",
                "pyproject.toml": '[[tool.uv.index]]\nurl = "http://user:secret@127.0.0.1:{port}/"\n',
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"requirements.txt": "six", "uv.toml": 'extra-index-url = ["http://127.0.0.1:{port}/"]\n'},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_index_of_the_repository_is_left_aside(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]], files: dict[str, str]
) -> None:
    """Where packages come from is this worker's choice; what a repository says of it is told, without its secrets."""
    port, seen = listener
    filled = {name: text.replace("{port}", str(port)) for name, text in files.items()}
    environment = prepare(tree(tmp_path, filled), cache)
    assert run(environment, "import six").ok
    assert seen == []
    if "uv.toml" not in files:
        assert any(f"127.0.0.1:{port}" in warning and "UV_INDEX" in warning for warning in environment.warnings)
    assert "secret" not in "".join(environment.warnings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("thing @ http://127.0.0.1:{port}/thing-1-py3-none-any.whl", "without TLS"),
        ("thing @ https://127.0.0.1:{port}/thing-1.tar.gz", "not a public address"),
        ("https://localhost:{port}/thing-1.tar.gz", "not a public address"),
        ("thing @ git+https://127.0.0.1:{port}/thing", "not a public address"),
        ("thing @ git+file:///tmp/thing", "is not followed"),
        ("thing @ git+ssh://git@127.0.0.1:{port}/thing", "is not followed"),
        ("thing @ file:///etc/passwd", "outside of the repository"),
        ("-r /etc/passwd", "outside of the repository"),
        ("-r ../outside.txt", "outside of the repository"),
        ("-c ../outside.txt", "outside of the repository"),
        ("-e ../outside", "outside of the repository"),
        ("-r link.txt", "outside of the repository"),
        ("six --hash=sha256:" + "0" * 64, "Hash mismatch"),
        ("${SECRET}", "variables are not filled in"),
    ],
)
def test_a_requirement_leads_nowhere_else(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]], line: str, message: str
) -> None:
    """No line of a requirements file makes this worker read its own files, or connect to itself."""
    port, seen = listener
    tree(tmp_path, {"outside.txt": "six", "outside/setup.py": setup("outcome = 'built'")})
    project = tree(tmp_path / "project", {"requirements.txt": line.replace("{port}", str(port))})
    (project / "link.txt").symlink_to("/etc/passwd")
    with pytest.raises(EnvironmentFailed) as failure:
        prepare(project, cache)
    assert message in failure.value.message
    assert "root:" not in failure.value.message
    assert seen == []


def test_what_a_neighbour_asks_for_leads_nowhere_else(
    tmp_path: Path, cache: Path, listener: tuple[int, list[str]]
) -> None:
    """Nor does the metadata of what was built, which uv would follow."""
    port, seen = listener
    tree(
        tmp_path,
        {
            "lib/pyproject.toml": OWN,
            "lib/own.py": f"""
                import zipfile
                FILES = {FILES!r}
                FILES["parts-1.dist-info/METADATA"] += "Requires-Dist: thing @ http://127.0.0.1:{port}/thing-1.tar.gz\\n"

                def build_wheel(out, *_):
                    with zipfile.ZipFile(out + "/parts-1-py3-none-any.whl", "w") as archive:
                        for name, text in FILES.items():
                            archive.writestr(name, text)
                    return "parts-1-py3-none-any.whl"
                """,
            "requirements.txt": "./lib\n",
        },
    )
    with pytest.raises(EnvironmentFailed, match="without TLS"):
        prepare(tmp_path, cache)
    assert seen == []


@pytest.mark.slow
def test_links_within_the_repository_are_followed(tmp_path: Path, cache: Path) -> None:
    """A requirements file that is a link to another one of the repository is read."""
    tree(tmp_path, {"deps/base.txt": "-r deps/more.in\n", "deps/more.in": "six>0.3\n"})
    (tmp_path / "requirements.txt").symlink_to("deps/base.txt")
    first = prepare(tmp_path, cache)
    assert run(first, "import six").ok
    (tmp_path / "deps/more.in").write_text("six>0.4\n")
    assert prepare(tmp_path, cache).key != first.key


# -- what a build leaves ----------------------------------------------------------------------------------------------

LEFT = {
    "link": "os.symlink({canary!r}, path)",
    "pipe": "os.mkfifo(path)",
    "folder": "os.mkdir(path)",
    "device": "os.symlink('/dev/zero', path)",
    "outside": "write({{'../../outside.py': ''}})",
    "absolute": "write({{'/outside.py': ''}})",
    "a link in it": "write({{}}, link='parts/link')",
    "two of a name": "write({{}}); zipfile.ZipFile(path, 'a').writestr('parts.py', 'other')",
    "another's": "write({{'pytest-9.dist-info/METADATA': 'Name: pytest'}})",
    "another's name": "write({{'parts-1.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: pytest\\nVersion: 1\\n'}})",
    "no wheel": "open(path, 'w').write('nothing')",
    "nothing": "pass",
    "two": "write({{}}); os.link(path, path.replace('parts', 'more'))",
    "a bomb": "write({{}}, bomb=1 << 30)",
    "a broken one": "write({{}}); data = open(path, 'rb').read(); open(path, 'wb').write(data[:-40])",
}
LEAVING = """\
import os, zipfile
FILES = {files!r}

def build_wheel(out, *_):
    path = out + "/parts-1-py3-none-any.whl"
    def write(more, link="", bomb=0):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, text in {{**FILES, **more}}.items():
                archive.writestr(name, text)
            if link:
                info = zipfile.ZipInfo(link)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, {canary!r})
            if bomb:
                with archive.open("bomb.bin", "w") as file:
                    for _ in range(bomb >> 20):
                        file.write(bytes(1 << 20))
    {act}
    return "parts-1-py3-none-any.whl"
"""


@pytest.mark.parametrize("left", LEFT)
def test_what_is_no_wheel_is_not_taken(tmp_path: Path, left: str) -> None:
    """Whatever a build leaves in place of its wheel: nothing is released, and nothing of this host gets into it."""
    canary = tmp_path / "canary"
    canary.write_text("a secret of this host")
    act = LEFT[left].format(canary=str(canary))
    program = LEAVING.format(files=FILES, canary=str(canary), act=act)
    project = tree(tmp_path / "tree", {"pyproject.toml": OWN, "own.py": program, "parts.py": ""})
    wheels = Wheels(tmp_path / "cache", detect_sandbox())
    with pytest.raises(DeploymentFailed, match="does not build"):
        wheels.build("a" * 64, project, COMPONENT, print)
    assert wheels.find("a" * 64) is None
    assert not [path for path in (tmp_path / "cache").rglob("*.whl") if path.exists()]
    assert canary.read_text() == "a secret of this host"


ASKED = {
    "pipe": "os.mkfifo(path)",
    "device": "os.symlink('/dev/zero', path)",
    "shape": "open(path, 'w').write('{\"a\": 1}')",
    "large": "open(path, 'w').write('[' + '\"six\",' * 100_000 + '\"six\"]')",
    "many": "open(path, 'w').write('[' + '\"six\",' * 1_000 + '\"six\"]')",
    "url": "open(path, 'w').write('[\"six @ http://127.0.0.1/six-1.whl\"]')",
    "words": "open(path, 'w').write('[\"--index-url=http://127.0.0.1/\"]')",
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_a_backend_asks_for_is_a_list_of_packages(tmp_path: Path, asked: str) -> None:
    """Whatever a backend leaves in place of what it needs."""
    program = f"""\
import os, sys
path = sys.argv[1] + "/requires.json"
{ASKED[asked]}
os._exit(0)
"""
    project = tree(tmp_path / "tree", {"pyproject.toml": OWN, "own.py": program, "parts.py": ""})
    with pytest.raises(DeploymentFailed, match=r"The build (needs|backend asks)|What the build backend asks"):
        Wheels(tmp_path / "cache", detect_sandbox()).build("a" * 64, project, COMPONENT, print)


@pytest.mark.slow
def test_a_backend_gets_what_it_asks_for(tmp_path: Path, cache: Path) -> None:
    """A backend that needs more than its project declares finds it."""
    program = f"""\
        FILES = {FILES!r}

        def get_requires_for_build_wheel(_settings=None):
            return ["iniconfig"]

        def build_wheel(out, *_):
            import iniconfig, zipfile
            with zipfile.ZipFile(out + "/parts-1-py3-none-any.whl", "w") as archive:
                for name, text in FILES.items():
                    archive.writestr(name, text)
            return "parts-1-py3-none-any.whl"
        """
    project = tree(tmp_path / "tree", {"pyproject.toml": OWN, "own.py": program, "parts.py": ""})
    built = Wheels(cache, detect_sandbox()).build("b" * 64, project, COMPONENT, print)
    assert zipfile.ZipFile(built).namelist() == list(FILES)


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_is_built_once_of_an_archive(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same archive, Python and tools give the wheel that was kept, as long as it is what was written."""
    links = tmp_path / "links"
    links.mkdir()
    sdist(links, "unique", "import uuid\noutcome = uuid.uuid4().hex\n")
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    first = summary(prepare(tree(tmp_path / "first", {"requirements.txt": "unique"}), cache), "unique")
    again = summary(prepare(tree(tmp_path / "again", {"requirements.txt": "unique\nsix>0.5"}), cache), "unique")
    assert len(first) == 32
    assert again == first
    for kept in (cache / "built").glob("*/unique-*.whl"):
        kept.write_bytes(kept.read_bytes() + b"\0")
    changed = summary(prepare(tree(tmp_path / "changed", {"requirements.txt": "unique\nsix>0.6"}), cache), "unique")
    assert len(changed) == 32
    assert changed != first


def test_a_repository_pins_a_source_by_its_hash(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source archive of another hash than a repository asks for is not built."""
    links = tmp_path / "links"
    links.mkdir()
    sdist(links, "pinned", "outcome = 'built'\n")
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    project = tree(tmp_path / "project", {"requirements.txt": f"pinned==1 --hash=sha256:{'0' * 64}\n"})
    with pytest.raises(EnvironmentFailed, match="hash"):
        prepare(project, cache)


def test_agents_packages_are_pinned_by_hash() -> None:
    """Each of them, so that no index and no cache can put another in its place."""
    text = REQUIREMENTS.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 50
    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []


def _damaged(method: int) -> bytes:
    """A wheel whose compressed bytes are not what they say."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, text in FILES.items():
            archive.writestr(name, text * 50)
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(packed.getvalue())
    start = largest.header_offset + 30 + len(largest.filename)
    content[start : start + largest.compress_size] = b"\xff" * largest.compress_size
    return bytes(content)


def _unnamed() -> bytes:
    """A wheel with an entry that has no name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in {**FILES, "x": ""}.items():
            archive.writestr(name, text)
        archive.infolist()[-1].filename = ""
    return packed.getvalue()


@pytest.mark.parametrize(
    "content",
    [_damaged(zipfile.ZIP_DEFLATED), _damaged(zipfile.ZIP_BZIP2), _damaged(zipfile.ZIP_LZMA), _unnamed(), b"", b"PK"],
    ids=["deflated", "bzip2", "lzma", "without a name", "empty", "cut off"],
)
def test_a_damaged_archive_is_no_wheel(content: bytes) -> None:
    """Whatever the library that reads it makes of that."""
    with pytest.raises(BadWheel):
        read("parts-1-py3-none-any.whl", content)
