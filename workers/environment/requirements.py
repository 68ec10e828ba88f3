"""Reads what a repository says of its dependencies: by name, or by a place that it may name.

A repository chooses packages and versions. Where they come from is this worker's choice: indexes and further folders
that a repository names are left aside, with a warning. What it may name is a folder or file of its own tree, an archive
by ``https://``, and a repository by ``git+https://``. uv never sees what is read here, only what comes of it.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from packaging.dependency_groups import resolve_dependency_groups
from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tta_tasks.foreign import ForeignTree
from workers.component import parsing

#: Largest file that is read, most files that include each other, and most links to a file.
MAX_BYTES, MAX_INCLUDED, MAX_LINKS = 4 << 20, 100, 8
#: Options of a requirements file that have a value, and their short forms.
_VALUED = {
    "-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links",
}  # fmt: skip
_ELSEWHERE = {"--index-url", "--extra-index-url", "--find-links", "--trusted-host", "--no-index"}
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")


class Unacceptable(ValueError):
    """A declaration that cannot be followed; the message says which, and why."""


@dataclass(frozen=True)
class Source:
    """Where a package comes from instead of an index."""

    kind: Literal["path", "url", "git"]
    #: Relative to the tree, or a URL.
    location: str
    #: Of a git repository: what is checked out.
    revision: str = ""
    #: In an archive or git repository.
    subdirectory: str = ""


@dataclass(frozen=True)
class Wanted:
    """One thing that is asked for."""

    #: Its name, extras, specifier and marker, without a URL; the name is empty where only the source knows it.
    requirement: Requirement | None
    source: Source | None = None
    #: Extras, where there is no requirement.
    extras: frozenset[str] = frozenset()
    #: Hashes that its file must have, ``sha256:...``.
    hashes: tuple[str, ...] = ()


@dataclass
class RequirementReader:
    """Reads declarations in a tree, and remembers what it read.

    Attributes:
        tree: The whole tree of the repository.
        notes: What is not followed, for a person.
        read: The files that were read, with the sha256 of their content.
        constraints: What ``-c`` and ``tool.uv`` limit.
        overrides: What ``tool.uv`` overrides.
        prerelease: Whether pre-releases are asked for.
    """

    tree: ForeignTree
    notes: list[str] = field(default_factory=list)
    read: dict[str, str] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    prerelease: bool = False

    def text(self, path: str) -> str | None:
        """A file's text; ``None`` where there is none. Links are followed within the tree.

        Raises:
            Unacceptable: It cannot be read, or is no text.
        """
        place = self._place(path)
        if not self.tree.exists(place):
            return None
        try:
            content = self.tree.read_bytes(place, max_bytes=MAX_BYTES)
            self.read[path] = hashlib.sha256(content).hexdigest()
            return content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise Unacceptable(f"{path} cannot be read: {error}") from error

    def pyproject(self, folder: str) -> dict[str, Any]:
        """The ``pyproject.toml`` of a folder, or nothing.

        Raises:
            Unacceptable: It is not TOML.
        """
        try:
            return parsing.toml(self.text(posixpath.join(folder, "pyproject.toml")) or "")
        except ValueError as error:
            raise Unacceptable(f"pyproject.toml is not TOML: {error}") from error

    def configure(self, folder: str) -> None:
        """Take what ``tool.uv`` says of resolving; the root of a workspace speaks for its members."""
        root = self._workspace(folder)
        tables = [in_table(self.pyproject(each), "tool", "uv") for each in dict.fromkeys((folder, root or folder))]
        for table in tables:
            self.constraints += _named(table.get("constraint-dependencies"))
            self.overrides += _named(table.get("override-dependencies"))
            self.prerelease |= table.get("prerelease") == "allow"
            self._elsewhere(_urls(table))

    def listed(self, words: object, folder: str, where: str) -> list[Wanted]:
        """Requirements of a ``pyproject.toml``, whose ``tool.uv.sources`` may say where they come from.

        Raises:
            Unacceptable: One of them is none.
        """
        if not isinstance(words, list):
            raise Unacceptable(f"{where} is no list")
        sources = self.sources(folder)
        return [self.wanted(str(word), folder, sources) for word in words]

    def group(self, name: str, folder: str) -> list[Wanted]:
        """A dependency group.

        Raises:
            Unacceptable: There is none of that name, or it does not hold.
        """
        data = self.pyproject(folder)
        groups = dict(in_table(data, "dependency-groups"))
        old = in_table(data, "tool", "uv").get("dev-dependencies")
        if isinstance(old, list):
            groups["dev"] = [*groups.get("dev", []), *old]
        if canonicalize_name(name) not in {canonicalize_name(each) for each in groups}:
            raise Unacceptable(f"there is no dependency group {name}")
        try:
            words = list(resolve_dependency_groups(groups, name))
        except (ValueError, TypeError, LookupError) as error:
            raise Unacceptable(f"dependency-groups.{name} does not hold: {error}") from error
        except ExceptionGroup as errors:
            why = "; ".join(map(str, errors.exceptions))
            raise Unacceptable(f"dependency-groups.{name} does not hold: {why}") from errors
        return self.listed(words, folder, f"dependency-groups.{name}")

    def file(self, path: str, *, included: int = 0) -> list[Wanted]:
        """A requirements file, with those that it includes.

        Raises:
            Unacceptable: It is not there, or a line is not understood.
        """
        text = self.text(path)
        if text is None or included > MAX_INCLUDED:
            raise Unacceptable(f"{path} is {'not there' if text is None else 'included again and again'}")
        found: list[Wanted] = []
        for line in _lines(text):
            if _VARIABLE.search(line):
                raise Unacceptable(f"{path}: variables are not filled in: {line}")
            option, value = _option(line)
            folder = posixpath.dirname(path)
            if not option:
                words, *hashes = re.split(r"\s+--hash[= ]\s*", re.sub(r"\s--(?!hash)\S+.*$", "", line))
                wanted = self.wanted(words.strip(), folder, {})
                found.append(
                    Wanted(wanted.requirement, wanted.source, wanted.extras, tuple(each.strip() for each in hashes))
                )
            elif option == "--requirement":
                found += self.file(self._inside(folder, value), included=included + 1)
            elif option == "--constraint":
                limits = self.file(self._inside(folder, value), included=included + 1)
                self.constraints += [str(each.requirement) for each in limits if each.requirement and not each.source]
            elif option == "--editable":
                found.append(self.wanted(value, folder, {}))
            elif option == "--pre":
                self.prerelease = True
            elif option in _ELSEWHERE:
                self._elsewhere([value])
        return found

    def wanted(self, text: str, folder: str, sources: Mapping[str, Source]) -> Wanted:
        """One requirement: PEP 508, a URL, or a path.

        Raises:
            Unacceptable: It is none of them, or names a place that a repository may not name.
        """
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return self._unnamed(text, folder)
        if requirement.url is None:
            return Wanted(requirement, sources.get(canonicalize_name(requirement.name)))
        source = self.place(requirement.url, folder)
        requirement.url = None
        return Wanted(requirement, source)

    def place(self, url: str, folder: str) -> Source:
        """What a URL or path names.

        Raises:
            Unacceptable: A repository may not name it.
        """
        parts = urlsplit(url)
        fragment = dict(pair.partition("=")[::2] for pair in parts.fragment.split("&"))
        subdirectory = _below(unquote(fragment.get("subdirectory", ""))) if "subdirectory" in fragment else ""
        bare = parts._replace(fragment="").geturl()
        if parts.scheme in {"http", "https"}:
            return Source("url", bare, subdirectory=subdirectory)
        if parts.scheme == "git+https":
            where, _, revision = parts.path.partition("@")
            return Source("git", f"https://{parts.netloc}{where}", _revision(revision), subdirectory)
        if parts.scheme in {"", "file"} and not parts.netloc:
            return Source("path", self._inside(folder, unquote(parts.path)))
        raise Unacceptable(
            f"{_redacted(url)} is not followed: only paths in the repository, https:// and git+https:// are"
        )

    def sources(self, folder: str) -> dict[str, Source]:
        """What ``tool.uv.sources`` says of packages, by name; those of a workspace's root hold for its members.

        Raises:
            Unacceptable: One names a place that a repository may not name.
        """
        root = self._workspace(folder)
        found: dict[str, Source] = {}
        for place in dict.fromkeys((root or folder, folder)):
            for name, tables in in_table(self.pyproject(place), "tool", "uv", "sources").items():
                chosen: Mapping[str, Any] = next(
                    (table for table in (tables if isinstance(tables, list) else [tables]) if _applies(table)), {}
                )
                source = self._source(canonicalize_name(name), chosen, place, root)
                if source:
                    found[canonicalize_name(name)] = source
                elif "index" in chosen:
                    self._elsewhere([str(chosen["index"])])
        return found

    def _source(self, name: str, table: Mapping[str, Any], folder: str, root: str | None) -> Source | None:
        subdirectory = _below(str(table.get("subdirectory", "")))
        if "git" in table:
            revision = _revision(str(table.get("rev") or table.get("tag") or table.get("branch") or ""))
            url = str(table["git"]).removeprefix("git+")
            place = self.place(f"git+{url}", folder)
            return Source("git", place.location, revision, subdirectory)
        if "url" in table:
            return Source("url", self.place(str(table["url"]), folder).location, subdirectory=subdirectory)
        if "path" in table:
            return Source("path", self._inside(folder, str(table["path"])))
        if table.get("workspace") is True and root is not None:
            members = self._members(root)
            if name not in members:
                raise Unacceptable(f"the workspace has no member {name}")
            return Source("path", members[name])
        return None

    def _workspace(self, folder: str) -> str | None:
        """The root of the workspace that a project is in."""
        while True:
            if in_table(self.pyproject(folder), "tool", "uv").get("workspace") is not None:
                return folder
            if not folder:
                return None
            folder = posixpath.dirname(folder)

    def _members(self, root: str) -> dict[str, str]:
        """The projects of a workspace: name and folder."""
        table = in_table(self.pyproject(root), "tool", "uv", "workspace")
        patterns, excluded = ([_glob(root, each) for each in _words(table.get(key))] for key in ("members", "exclude"))
        found: dict[str, str] = {}
        for each in self.tree.files("pyproject.toml", root or "."):
            folder = posixpath.dirname(each.path)
            if folder == root or (
                any(pattern.fullmatch(folder) for pattern in patterns)
                and not any(pattern.fullmatch(folder) for pattern in excluded)
            ):
                name = in_table(self.pyproject(folder), "project").get("name")
                if isinstance(name, str):
                    found[canonicalize_name(name)] = folder
        return found

    def _unnamed(self, text: str, folder: str) -> Wanted:
        where, _, marker = text.partition(" ;")
        path, bracket, extras = where.strip().partition("[")
        if bracket and not extras.endswith("]"):
            path, extras = where.strip(), ""
        if not re.match(r"\.{0,2}/|\.{1,2}$|file:|https?:|git\+", path) and not self.tree.exists(
            posixpath.join(folder, path)
        ):
            raise Unacceptable(f"{_redacted(text)!r} is no requirement")
        if marker.strip() and not _applies({"marker": marker.strip()}):
            return Wanted(None)
        chosen = frozenset(filter(None, (each.strip() for each in extras.rstrip("]").split(","))))
        source = self.place(path, folder)
        return Wanted(None, source, chosen)

    def _inside(self, folder: str, path: str) -> str:
        """A path of the tree, by its words.

        Raises:
            Unacceptable: It leads elsewhere.
        """
        found = posixpath.normpath(posixpath.join(folder, path))
        if posixpath.isabs(path) or found.split("/")[0] == ".." or "\0" in path:
            raise Unacceptable(f"{path} is outside of the repository")
        return "" if found == "." else found

    def _place(self, path: str) -> str:
        """Where a file is, behind links that stay in the tree."""
        for _ in range(MAX_LINKS):
            try:
                target = self.tree.link_target(path)
            except OSError:
                return path
            path = self._inside(posixpath.dirname(path), target)
        raise Unacceptable(f"{path} is a link to a link to a link")

    def _elsewhere(self, names: Iterable[str]) -> None:
        for name in names:
            host = urlsplit(name).netloc.rpartition("@")[2] or _redacted(name)
            note = (
                f"the repository names a place to take packages from ({host}), which is left aside: this worker's are"
            )
            note += " set by UV_DEFAULT_INDEX, UV_INDEX and UV_FIND_LINKS"
            if note not in self.notes:
                self.notes.append(note)


def _lines(text: str) -> Iterator[str]:
    """Lines of a requirements file, joined where they go on, without comments."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if stripped := re.sub(r"(^|\s)#.*$", "", line).strip():
            yield stripped


def _option(line: str) -> tuple[str, str]:
    """An option and its value; no option where the line is a requirement."""
    if not line.startswith("-"):
        return "", line
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    name, equals, value = words[0].partition("=")
    if not name.startswith("--") and len(name) > 2:  # noqa: PLR2004 - "-rfile"
        name, equals, value = name[:2], "=", words[0][2:]
    return _VALUED.get(name, name), value if equals else " ".join(words[1:])


def in_table(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The table that ``names`` lead to; empty where there is none."""
    for name in names:
        value = data.get(name)
        data = value if isinstance(value, dict) else {}
    return data


def _words(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _named(value: object) -> list[str]:
    """Those of a list of requirements that ask by name."""
    found = []
    for word in _words(value):
        try:
            requirement = Requirement(word)
        except InvalidRequirement as error:
            raise Unacceptable(f"{_redacted(word)!r} is no requirement") from error
        if requirement.url is None:
            found.append(str(requirement))
    return found


def _urls(table: Mapping[str, Any]) -> list[str]:
    indexes = [str(each.get("url")) for each in table.get("index", []) if isinstance(each, dict)]
    single = [str(table[key]) for key in ("index-url", "default-index") if key in table]
    return [*indexes, *single, *_words(table.get("extra-index-url")), *_words(table.get("find-links"))]


def _applies(table: object) -> bool:
    """Whether the marker of a source holds here."""
    if not isinstance(table, dict):
        return False
    try:
        return "marker" not in table or Marker(str(table["marker"])).evaluate()
    except InvalidMarker:
        return False


def _glob(root: str, pattern: str) -> re.Pattern[str]:
    """A pattern of folders, in which ``*`` stays within a name."""
    path = posixpath.normpath(posixpath.join(root, pattern))
    words = re.split(r"(\*\*|\*|\?)", path)
    return re.compile("".join({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(word, re.escape(word)) for word in words))


def _below(path: str) -> str:
    if path and (posixpath.isabs(path) or ".." in path.split("/") or "\0" in path):
        raise Unacceptable(f"{path} leads elsewhere")
    return path


def _revision(word: str) -> str:
    if word.startswith("-") or not re.fullmatch(r"[\w./+@-]*", word):
        raise Unacceptable(f"{word!r} is no revision")
    return word


def _redacted(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
