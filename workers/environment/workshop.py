"""Makes environments and wheels in two steps that never meet: downloading, and building.

What is downloaded is not run: uv takes wheels alone, and source archives are fetched as files. What is built, is built
in the sandbox without a network, without the loopback of this host and without any cache, in an environment that we
made of wheels. The wheel that comes out is taken through the door of :mod:`workers.environment.wheel`, and the next
resolving may choose it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import TypeAdapter

from tta_tasks.errors import EnvironmentFailed
from tta_tasks.foreign import ForeignTree, discard
from tta_tasks.protocols import Completed, Sandbox
from tta_tasks.settings import settings
from workers.component import parsing
from workers.environment.installer import LIMITS, Installer, decisive, unresolvable
from workers.environment.interpreters import Interpreter
from workers.environment.requirements import RequirementReader, Source, Unacceptable, Wanted
from workers.environment.wheel import BadWheel, Wheel, by_name, read, take
from workers.sandbox import PYTHON

PROGRAMS = Path(__file__).with_name("programs")
#: Most wheels that are built for one environment, and most requirements that a backend may ask for.
MAX_BUILDS, MAX_ASKED = 40, 200
#: Largest archive of a source, and largest tree that is copied.
MAX_ARCHIVE_BYTES, MAX_TREE_BYTES = 1 << 30, 4 << 30
#: Part of the key of each wheel that is kept: change it when it would be built differently.
FORMAT = 1
#: Snapshots and archives have no history to read a version from: this is how the usual build tools are told one.
VERSIONED = dict.fromkeys(
    (
        "SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "PBR_VERSION", "POETRY_DYNAMIC_VERSIONING_BYPASS",
        "UV_DYNAMIC_VERSIONING_BYPASS",
    ),
    "0.0.0",
)  # fmt: skip
#: What a project without a build system is built with (PEP 517).
LEGACY = {"requires": ["setuptools>=40.8.0"], "build-backend": "setuptools.build_meta:__legacy__"}
OFFLINE = (
    " It was built without the network, as all builds are. If it has to download something,"
    " TTA_BUILD_NETWORK=true allows that; see docs/reference/settings.md for what that opens."
)
_WHEEL_MISSING = re.compile(r"Wheels are required for `([A-Za-z0-9._-]+)`")
_STRINGS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class BuildFailed(EnvironmentFailed):
    """A project does not build, or what it left is no wheel."""


@dataclass(frozen=True)
class Project:
    """A folder to build.

    Attributes:
        tree: All that the build may see and write to.
        folder: The project in it; empty for the tree itself.
    """

    tree: Path
    folder: str = ""

    @property
    def path(self) -> Path:
        """The project's folder."""
        return self.tree / self.folder


@dataclass(frozen=True)
class Lock:
    """All that an environment is made of: pinned by hash, or built here."""

    #: For uv, from this host's indexes.
    pinned: str
    #: Wheels that were built here.
    built: tuple[Path, ...]


@dataclass
class Workshop:
    """Makes what one environment, or one wheel, needs; gone at the end, but for what was made elsewhere.

    Attributes:
        cache: The host's cache folder: uv's cache is in ``uv``, wheels that were built from archives in ``built``.
        folder: A folder of ours, away from every view but for what each command is given.
        progress: Told what is being done.
    """

    sandbox: Sandbox
    interpreter: Interpreter
    cache: Path
    folder: Path
    progress: Callable[[str], None] = field(default=lambda _message: None)
    _wheels: dict[str, Wheel] = field(default_factory=dict, init=False)
    _tried: set[tuple[str, str]] = field(default_factory=set, init=False)
    _building: list[str] = field(default_factory=list, init=False)
    _sourced: dict[Source, Wheel] = field(default_factory=dict, init=False)
    _builds: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for path in (self._wheelhouse, self._originals):
            path.mkdir()
        self.installer = Installer(self.sandbox, self.interpreter, self.cache / "uv", self.folder)

    # -- environments -------------------------------------------------------------------------------------------------

    def resolve(
        self,
        wanted: Sequence[Wanted],
        *,
        tree: Path | None = None,
        constraints: Sequence[str] = (),
        overrides: Sequence[str] = (),
        prerelease: bool = False,
        further: bool = True,
    ) -> Lock:
        """Pin everything that is wanted, and what it needs; builds what has no wheel.

        Args:
            wanted: What.
            tree: Where sources that are paths are: a copy that builds may write to.
            constraints: Limits, by name.
            overrides: Requirements that replace all others of their name.
            prerelease: Whether all packages may be pre-releases.
            further: Whether what they need in turn is found, too.

        Raises:
            EnvironmentFailed: There is no solution.
            BuildFailed: Something does not build.
        """
        lines: list[str] = []
        hashes: dict[str, Sequence[str]] = {}
        places = self._places(tree)
        for each in wanted:
            if each.source is None and each.requirement is not None:
                lines.append(str(each.requirement))
                if each.hashes:
                    hashes[canonicalize_name(each.requirement.name)] = each.hashes
            elif each.source is not None and self._applies(each.requirement):
                wheel = self._built(each.source, places, each.requirement)
                asked = each.requirement or Requirement(f"{wheel.name}[{','.join(sorted(each.extras))}]")
                lines.append(by_name(asked, self._url(wheel)))
        # What sources need is taken from where they say, too, also where nothing asks for it directly.
        given = {wheel.name: f"{wheel.name} @ {self._url(wheel)}" for wheel in self._sourced.values()}
        chosen = [*constraints, *given.values()]
        while True:
            done = self.installer.resolve(
                lines,
                constraints=chosen,
                overrides=overrides,
                wheelhouse=self._wheelhouse,
                prerelease=prerelease,
                further=further,
            )
            if done.ok:
                return self._lock(done.stdout, hashes)
            missing = dict.fromkeys(_WHEEL_MISSING.findall(done.stderr)) if not done.stopped else {}
            if not any([self._provide(canonicalize_name(name), done.stderr, hashes) for name in missing]):  # noqa: C419 - all of them
                self.installer.require(done)

    def make(self, home: Path, lock: Lock) -> Path:
        """Make an environment; answer its interpreter.

        Raises:
            EnvironmentFailed: It does not install.
        """
        python = self.installer.make(home, lock.pinned)
        if lock.built:
            self.installer.require(self.installer.add(home, lock.built))
        return python

    # -- wheels -------------------------------------------------------------------------------------------------------

    def copy(self, tree: ForeignTree) -> Path:
        """Copy a tree, for builds to write to.

        Raises:
            EnvironmentFailed: It is too large, or cannot be read.
        """
        into = self.folder / f"tree-{uuid4().hex[:8]}"
        try:
            tree.copy_to(into, max_bytes=MAX_TREE_BYTES)
        except OSError as error:
            raise EnvironmentFailed(f"The component's tree cannot be copied: {error}.") from error
        return into

    def build(self, project: Project, *, env: Mapping[str, str] = VERSIONED, expected: str | None = None) -> Wheel:
        """Build a project's wheel.

        Args:
            project: What to build; its tree is written to.
            env: Added to the environment of the build.
            expected: The normalised name that the wheel must have.

        Raises:
            BuildFailed: It does not build.
            EnvironmentFailed: What the build needs does not install.
        """
        requires, backend, paths = self._build_system(project)
        lock = self.resolve([Wanted(each) for each in requires])
        return self._build_with(lock, requires, (backend, paths), project, env=env, expected=expected)

    def _build_with(
        self,
        lock: Lock,
        requires: Sequence[Requirement],
        backend: tuple[str, Sequence[str]],
        project: Project,
        *,
        env: Mapping[str, str],
        expected: str | None,
    ) -> Wheel:
        self._builds += 1
        if self._builds > MAX_BUILDS:
            raise BuildFailed(f"More than {MAX_BUILDS} wheels would have to be built.")
        given = [str(each) for each in requires]
        for _ in range(2):
            work = self.folder / f"build-{uuid4().hex[:8]}"
            work.mkdir()
            self.make(work / "venv", lock)
            (work / "out").mkdir()
            done = self._ask_backend(work, backend, given, project, env)
            outcome = ForeignTree(work)
            if not done.ok or not outcome.exists("out/requires.json"):
                break
            asked = _asked(outcome)
            lock = self.resolve([Wanted(each) for each in (*requires, *_requirements(asked))])
            given += asked
        try:
            if done.stopped:
                raise BuildFailed(f"It took longer than {done.duration_s:.0f} s.")
            if not done.ok:
                raise BuildFailed(_said(done))
            return take(outcome, "out", expected)
        except BadWheel as error:
            raise BuildFailed(f"{error}.") from error
        finally:
            discard(work)

    def _ask_backend(
        self,
        work: Path,
        backend: tuple[str, Sequence[str]],
        given: Sequence[str],
        project: Project,
        env: Mapping[str, str],
    ) -> Completed:
        name, paths = backend
        return self.sandbox.run(
            [work / "venv" / "bin" / "python", PROGRAMS / "hooks.py", work / "out", name, *paths],
            cwd=project.path,
            writable=[work, project.tree],
            readable=[PROGRAMS, *self.interpreter.readable],
            env=dict(env),
            limits=LIMITS,
            stdin=json.dumps(list(given)),
            network=settings().build_network,
        )

    def _build_system(self, project: Project) -> tuple[list[Requirement], str, list[str]]:
        """What a project is built with: requirements, the backend's name, and folders of its own that it is in."""
        tree, name = ForeignTree(project.tree), "/".join(filter(None, (project.folder, "pyproject.toml")))
        try:
            data = parsing.toml(tree.read_text(name)) if tree.exists(name) else {}
        except (OSError, ValueError) as error:
            raise BuildFailed(f"pyproject.toml cannot be read: {error}.") from error
        table = data.get("build-system", LEGACY)
        table = table if isinstance(table, dict) else {}
        requires, paths = table.get("requires", []), table.get("backend-path", [])
        backend = table.get("build-backend", LEGACY["build-backend"])
        for words in (requires, [backend], paths):
            if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
                raise BuildFailed("The [build-system] of pyproject.toml does not hold.")
        return _requirements(requires), str(backend), paths

    # -- sources ------------------------------------------------------------------------------------------------------

    def _places(self, tree: Path | None) -> RequirementReader | None:
        return RequirementReader(ForeignTree(tree)) if tree is not None else None

    def _built(self, source: Source, places: RequirementReader | None, asked: Requirement | None) -> Wheel:
        """The wheel of a source, built once, and those of what it needs that come from sources."""
        if source in self._sourced:
            return self._sourced[source]
        name = str(canonicalize_name(asked.name)) if asked else None
        self.progress(f"building {name or source.location}")
        try:
            wheel = self._from_path(source, places, name) if source.kind == "path" else self._from_afar(source, name)
        except BuildFailed as error:
            raise BuildFailed(f"{name or source.location} does not build: {error.message}", error.hint) from error
        self._sourced[source] = wheel
        self._keep(wheel)
        try:
            known = places.sources(source.location) if places and source.kind == "path" else {}
            for requirement in wheel.requires:
                if not self._applies(requirement, anyway=True):
                    continue
                below = RequirementReader(ForeignTree(self._wheelhouse))
                further = (
                    below.place(requirement.url, "")
                    if requirement.url
                    else known.get(canonicalize_name(requirement.name))
                )
                if further is not None and not (requirement.url and further.kind == "path"):
                    self._built(further, places, requirement)
        except Unacceptable as error:
            raise BuildFailed(f"What {wheel.name} needs cannot be followed: {error}.") from error
        return wheel

    def _from_path(self, source: Source, places: RequirementReader | None, name: str | None) -> Wheel:
        if places is None:
            raise BuildFailed(f"{source.location} is a path, and there is no tree that it is in.")
        tree = places.tree
        if not source.location or tree.is_folder(source.location):
            return self.build(Project(tree.root, source.location), expected=name)
        try:
            content = tree.read_bytes(source.location, max_bytes=MAX_ARCHIVE_BYTES)
        except OSError as error:
            raise BuildFailed(f"{source.location} cannot be read: {error.strerror}.") from error
        return self._from_file(source.location.rpartition("/")[2], content, source, name)

    def _from_afar(self, source: Source, name: str | None) -> Wheel:
        work = self._work("fetch")
        hosts = self.installer.sources.hosts
        try:
            if source.kind == "git":
                self._fetch(work, "fetch_git.py", source.location, source.revision, work / "tree", *hosts)
                ForeignTree(work / "tree").remove(".git")
                return self.build(Project(work / "tree", source.subdirectory), expected=name)
            self._fetch(work, "fetch_url.py", source.location, work / "archive", *hosts)
            content = ForeignTree(work).read_bytes("archive", max_bytes=MAX_ARCHIVE_BYTES)
            return self._from_file(unquote(urlsplit(source.location).path.rpartition("/")[2]), content, source, name)
        except OSError as error:
            raise BuildFailed(f"{source.location} cannot be had: {error}.") from error
        finally:
            discard(work)

    def _from_file(self, filename: str, content: bytes, source: Source, name: str | None) -> Wheel:
        """A wheel, or one that is built from an archive."""
        if filename.endswith(".whl"):
            try:
                return read(filename, content, name)
            except BadWheel as error:
                raise BuildFailed(f"{error}.") from error
        return self._from_archive(content, source.subdirectory, name)

    def _provide(self, name: str, message: str, hashes: Mapping[str, Sequence[str]]) -> bool:
        """Build a package that has no wheel that fits; answer whether there is one more now."""
        if name in self._building:
            return False
        work = self._work("sdist")
        self._building.append(name)
        try:
            versions = (self._find(work, name, specifier) for specifier in _specifiers(name, message))
            version = next(filter(None, versions), None)
            if version is None or (name, version) in self._tried:
                return False
            self._tried.add((name, version))
            self.progress(f"building {name} {version}")
            content = _fetched(work, hashes.get(name))
            # The usual build tools would look for the version in a history, which an archive has not.
            self._keep(self._from_archive(content, "", name, env=dict.fromkeys(VERSIONED, version)))
        except OSError as error:
            raise BuildFailed(f"{name} cannot be had: {error}.") from error
        except BuildFailed as error:
            raise BuildFailed(f"{name} does not build: {error.message}", error.hint) from error
        finally:
            self._building.pop()
            discard(work)
        return True

    def _find(self, work: Path, name: str, specifier: str) -> str | None:
        """Fetch the best source archive into ``work/archive``; answer its version."""
        sources = self.installer.sources
        job = {
            "requirement": {"name": name, "specifier": specifier},
            "indexes": sources.indexes,
            "find_links": sources.find_links,
            "python": [int(part) for part in self.interpreter.version.split(".")[:2]],
        }
        done = self.sandbox.run(
            [sys.executable, "-I", PROGRAMS / "fetch_sdist.py", work],
            cwd=work,
            writable=[work],
            readable=[PROGRAMS, Path(sys.prefix), Path(sys.base_prefix), PYTHON, *self.installer.local_sources()],
            env=self.installer.environment(),
            limits=LIMITS,
            stdin=json.dumps(job),
            network=True,
        )
        if not done.ok:
            raise BuildFailed(f"its source cannot be fetched: {decisive(done.stderr)}")
        answer: dict[str, str] = json.loads(done.stdout or "{}")
        return answer.get("version")

    def _from_archive(
        self, content: bytes, subdirectory: str, name: str | None, *, env: Mapping[str, str] = VERSIONED
    ) -> Wheel:
        """Unpack an archive and build it, or take the wheel that the same archive gave before."""
        work = self._work("source")
        try:
            (work / "archive").write_bytes(content)
            (work / "tree").mkdir()
            unpacked = self.sandbox.run(
                [PYTHON, "-I", "-S", PROGRAMS / "unpack.py", work / "archive", work / "tree"],
                cwd=work,
                writable=[work / "tree"],
                readable=[PROGRAMS, PYTHON, Path(sys.base_prefix)],
                limits=LIMITS,
            )
            if not unpacked.ok:
                raise BuildFailed(f"The archive does not unpack: {decisive(unpacked.stderr)}")
            project = Project(work / "tree", "/".join(filter(None, (_only_folder(work / "tree"), subdirectory))))
            requires, backend, paths = self._build_system(project)
            lock = self.resolve([Wanted(each) for each in requires])
            kept = self._kept(content, subdirectory, lock, env)
            if kept is not None and (known := _recall(kept, name)):
                return known
            wheel = self._build_with(lock, requires, (backend, paths), project, env=env, expected=name)
            if kept is not None:
                _remember(kept, wheel)
            return wheel
        finally:
            discard(work)

    def _kept(self, content: bytes, subdirectory: str, lock: Lock, env: Mapping[str, str]) -> Path | None:
        """Where the wheel of an archive is kept: under all that it is made from. Nowhere if a build has the network."""
        if settings().build_network:
            return None
        built = [hashlib.sha256(path.read_bytes()).hexdigest() for path in lock.built]
        python = [str(self.interpreter.path), self.interpreter.version]
        parts = [
            FORMAT,
            hashlib.sha256(content).hexdigest(),
            subdirectory,
            python,
            lock.pinned,
            built,
            sorted(env.items()),
        ]
        return self.cache / "built" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    # -- this workshop ------------------------------------------------------------------------------------------------

    @property
    def _wheelhouse(self) -> Path:
        """What uv may choose from, beside indexes."""
        return self.folder / "wheelhouse"

    @property
    def _originals(self) -> Path:
        """What is installed of it."""
        return self.folder / "originals"

    def _keep(self, wheel: Wheel) -> None:
        self._wheels[f"{wheel.name}=={wheel.version}"] = wheel
        (self._wheelhouse / wheel.filename).write_bytes(wheel.without_urls())
        (self._originals / wheel.filename).write_bytes(wheel.content)

    def _url(self, wheel: Wheel) -> str:
        return (self._wheelhouse / wheel.filename).as_uri()

    def _lock(self, text: str, hashes: Mapping[str, Sequence[str]]) -> Lock:
        """Sort what uv pinned into what comes from indexes and what was built here."""
        pinned, built = [], []
        urls = {self._url(wheel): wheel for wheel in self._wheels.values()}
        for block in re.split(r"\n(?=\S)", text.strip()):
            head = block.split("\\")[0].split(";")[0].strip()
            name, _, url = head.partition(" @ ")
            wheel = urls.get(url) or self._wheels.get(head)
            if wheel is not None:
                built.append(self._originals / wheel.filename)
            elif url:
                raise unresolvable(f"{name.strip()} would come from {url}")
            else:
                chosen = hashes.get(canonicalize_name(name.partition("==")[0]))
                pinned.append(f"{head}{''.join(f' --hash={each}' for each in chosen)}" if chosen else block)
        return Lock("\n".join(pinned), tuple(built))

    def _applies(self, requirement: Requirement | None, *, anyway: bool = False) -> bool:
        """Whether a requirement's marker holds for this interpreter; ``anyway``: if some extra is asked for."""
        marker = requirement.marker if requirement else None
        if marker is None or (anyway and "extra" in str(marker)):
            return True
        return marker.evaluate(markers(self.interpreter))

    def _work(self, what: str) -> Path:
        path = self.folder / f"{what}-{uuid4().hex[:8]}"
        path.mkdir()
        return path

    def _fetch(self, work: Path, program: str, *words: str | Path) -> None:
        done = self.sandbox.run(
            [PYTHON, "-I", "-S", PROGRAMS / program, *words],
            cwd=work,
            writable=[work],
            readable=[PROGRAMS, PYTHON, Path(sys.base_prefix), *self.installer.local_sources()],
            env=self.installer.environment(),
            limits=LIMITS,
            network=True,
        )
        if not done.ok:
            raise BuildFailed(f"It cannot be fetched: {decisive(done.stderr)}")


@contextlib.contextmanager
def workshop(
    cache: Path, sandbox: Sandbox, interpreter: Interpreter, progress: Callable[[str], None] = lambda _message: None
) -> Iterator[Workshop]:
    """A workshop in a folder of its own; :func:`~workers.environment.prune` removes what a killed process left."""
    folder = cache / "workshops" / uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield Workshop(sandbox, interpreter, cache, folder, progress)
    finally:
        discard(folder)


def markers(interpreter: Interpreter) -> dict[str, str]:
    """What requirements may ask of an interpreter on this host."""
    short = ".".join(interpreter.version.split(".")[:2])
    return {"python_version": short, "python_full_version": interpreter.version, "extra": ""}


def needs(wheel: Wheel, interpreter: Interpreter, extras: Iterable[str] = ()) -> list[Wanted]:
    """What a wheel needs on an interpreter, with some of its extras.

    Raises:
        BuildFailed: It names a place that it may not name.
    """
    reader = RequirementReader(ForeignTree(Path("/nowhere")))
    environments = [{**markers(interpreter), "extra": extra} for extra in ("", *extras)]
    found = []
    for requirement in wheel.requires:
        if requirement.marker and not any(requirement.marker.evaluate(each) for each in environments):
            continue
        if canonicalize_name(requirement.name) == wheel.name:
            continue
        plain = Requirement(by_name(requirement))
        plain.marker = None
        try:
            source = reader.place(requirement.url, "") if requirement.url else None
        except Unacceptable as error:
            raise BuildFailed(f"What {wheel.name} needs cannot be followed: {error}.") from error
        if source is not None and source.kind == "path":
            raise BuildFailed(f"{wheel.name} needs {requirement.name} from a path of the host that built it.")
        found.append(Wanted(plain, source))
    return found


def _asked(outcome: ForeignTree) -> list[str]:
    """What a backend needs beside what its project declares.

    Raises:
        BuildFailed: That is no list of words.
    """
    try:
        words = outcome.read_json("out/requires.json", _STRINGS, max_bytes=1 << 16)
    except OSError as error:
        raise BuildFailed(f"What the build backend asks for cannot be read: {error.strerror}.") from error
    if len(words) > MAX_ASKED:
        raise BuildFailed(f"The build backend asks for more than {MAX_ASKED} packages.")
    return words


def _requirements(words: Iterable[str]) -> list[Requirement]:
    found = []
    for word in words:
        try:
            requirement = Requirement(word)
        except InvalidRequirement as error:
            raise BuildFailed(f"The build needs {word!r}, which is no requirement.") from error
        if requirement.url:
            raise BuildFailed(f"The build needs {requirement.name} from a URL; name a version of it instead.")
        found.append(requirement)
    return found


def _specifiers(name: str, message: str) -> list[str]:
    """What uv's message tells of the version that is needed, from all of it to nothing."""
    written = re.escape(name).replace(r"\-", "[-_.]")
    said = re.findall(rf"(?:depends on|require|depend on) {written}((?:[<>=!~]=?|===)[^\s`]+)", message, re.IGNORECASE)
    found = list(dict.fromkeys(each.rstrip(".,") for each in said))
    return list(dict.fromkeys([",".join(found), *found, ""]))


def _fetched(work: Path, hashes: Sequence[str] | None) -> bytes:
    """The archive that was fetched, if it is one of those that are asked for."""
    content = ForeignTree(work).read_bytes("archive", max_bytes=MAX_ARCHIVE_BYTES)
    if hashes and f"sha256:{hashlib.sha256(content).hexdigest()}" not in hashes:
        raise BuildFailed("its source archive is not the one whose hash is asked for.")
    return content


def _only_folder(tree: Path) -> str:
    """The folder that everything in an archive is in, where there is one."""
    found = {each.path.partition("/")[0] for each in ForeignTree(tree).walk() if "/" in each.path}
    flat = any("/" not in each.path for each in ForeignTree(tree).walk())
    return found.pop() if len(found) == 1 and not flat else ""


def _recall(kept: Path, name: str | None) -> Wheel | None:
    """A wheel that was kept, if it is what was written."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        index: dict[str, Any] = json.loads((kept / "index.json").read_text(encoding="utf-8"))
        content = (kept / index["filename"]).read_bytes()
        if hashlib.sha256(content).hexdigest() == index["sha256"]:
            os.utime(kept)  # how recently it was used
            return read(index["filename"], content, name)
    return None


def _remember(kept: Path, wheel: Wheel) -> None:
    new = kept.with_name(f"{kept.name}.{uuid4().hex[:8]}.new")
    new.mkdir(parents=True)
    (new / wheel.filename).write_bytes(wheel.content)
    index = {"filename": wheel.filename, "sha256": hashlib.sha256(wheel.content).hexdigest()}
    (new / "index.json").write_text(json.dumps(index), encoding="utf-8")
    with contextlib.suppress(OSError):  # another process was first
        new.rename(kept)
    discard(new)


def _said(done: Completed) -> str:
    return (decisive(done.stderr) or decisive(done.stdout)) + ("" if settings().build_network else OFFLINE)
