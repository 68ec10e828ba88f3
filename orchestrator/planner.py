"""Finding the component a spec is about, and the gates it must pass. Reads a repository, and runs nothing of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator.layout import Layout, find_layout, find_tests, stays_inside, subprojects, top_package
from orchestrator.project import ComponentTable, Project, is_project, read_project
from orchestrator.spec import Spec
from tta_tasks.errors import ComponentError
from tta_tasks.models import DEFAULT_GATES, Component, Gates, Module, Target

_SHOWN = 12


def find_component(
    repository: Path, *, name: str | None = None, spec: Spec | None = None, root: str | None = None
) -> Component:
    """Find a component in ``repository``.

    Args:
        repository: The folder that becomes the snapshot.
        name: Distribution, import package, module or subfolder; without, the spec's, else the project's own.
        spec: May name the component, its source, tests, modules and extras.
        root: The project folder, relative to ``repository``; without, it is looked for.

    Raises:
        ComponentError: There is none of that name, several could be meant, or it holds no Python.
    """
    if not repository.is_dir():
        raise ComponentError(f"There is no repository at {str(repository)!r}.", "Give the folder of the project.")
    repository = repository.absolute()
    wanted = name or (spec.component if spec else None)
    try:
        if root is not None:
            return _at(repository, root, wanted, spec)
        return _named(repository, wanted, spec) if wanted else _only(repository, spec)
    except OSError as error:
        raise ComponentError(f"{error.filename!r} cannot be read: {error.strerror}.") from error


def plan_gates(table: ComponentTable, target: Target, coverage: float | None = None) -> Gates:
    """The gates of ``target``, as the component's table changes them, with ``coverage`` before all."""
    planned = DEFAULT_GATES[target].model_dump()
    if table.coverage is not None:
        planned["coverage"] = table.coverage
    for source in (table.gates, getattr(table.gates, target)):
        chosen = source.model_dump(exclude_unset=True, exclude={*Target})
        planned |= chosen | {"plugins": planned["plugins"] | chosen.get("plugins", {})}
    if coverage is not None:
        planned["coverage"] = coverage
    return Gates.model_validate(planned)


def component_table(repository: Path, component: Component) -> ComponentTable:
    """``[tool.tta]`` of the project that ``component`` was found in.

    Raises:
        ComponentError: It does not hold.
    """
    return read_project(repository, component.root).table


# -- which project ----------------------------------------------------------------------------------------------------


def _at(repository: Path, root: str, wanted: str | None, spec: Spec | None) -> Component:
    """The component in the folder the person named."""
    folder = repository / root
    if not folder.is_dir() or not stays_inside(folder, repository):
        raise ComponentError(
            f"{root!r} is not a folder of the repository {str(repository)!r}.",
            "Give the project folder relative to the repository.",
        )
    # Normalised, and with symlinks that stay inside followed.
    folder = repository / folder.resolve().relative_to(repository.resolve())
    package = (folder / "__init__.py").is_file() and folder != repository
    home = top_package(folder, repository).parent if package else folder
    if package and not is_project(home) and is_project(home.parent) and home != repository:
        home = home.parent  # src/
    project = read_project(repository, home.relative_to(repository).as_posix())
    if package:
        own = find_layout(project, folder.relative_to(home).as_posix())
        dotted = ".".join(folder.relative_to(project.folder / own.import_root).parts)
        return _component(project, dotted, own, own.modules, spec)
    if wanted is None:
        return _whole(project, spec)
    if found := _match(project, wanted, spec):
        return found
    raise _unknown(wanted, [project])


def _only(repository: Path, spec: Spec | None) -> Component:
    """The component of a repository that has but one."""
    home = read_project(repository)
    layout = find_layout(home, _source(home, spec))
    if layout.modules and (home.declared or len(layout.packages) == 1 or _source(home, spec)):
        return _whole(home, spec)
    projects = (
        [home]
        if layout.modules
        else [item for item in _below(repository) if find_layout(item, item.table.source).modules]
    )
    if len(projects) == 1 and projects[0] is not home:
        return _whole(projects[0], spec)
    if not projects:
        raise ComponentError(
            f"The repository {str(repository)!r} holds no Python module to work on.",
            "Give the folder of a Python project, or name its source in the spec ('source: path').",
        )
    raise ComponentError(
        f"The repository holds several components: {_listed(_candidates(projects))}.",
        "Choose one with --component, or with 'component:' in the spec.",
    )


def _named(repository: Path, wanted: str, spec: Spec | None) -> Component:
    """The component a person called by name: here, in a project below, or by its folder."""
    home = read_project(repository)
    if found := _match(home, wanted, spec):
        return found
    below = _below(repository)
    matches = [component for project in below if (component := _match(project, wanted, spec))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ComponentError(
            f"Several components are called {wanted!r}: {_listed([match.root for match in matches])}.",
            "Name its folder instead.",
        )
    if (repository / wanted).is_dir() and wanted not in {"", "/"} and not Path(wanted).is_absolute():
        return _at(repository, wanted, None, spec)
    if spec and spec.source and spec.component in {None, wanted}:  # the spec itself says what the name stands for
        layout = find_layout(home, spec.source)
        return _component(home, wanted, layout, layout.modules, spec)
    raise _unknown(wanted, [home, *below])


def _below(repository: Path) -> list[Project]:
    """The projects below; one whose configuration is broken is no candidate, and does not hinder the others."""
    projects = []
    for root in subprojects(repository):
        try:
            projects.append(read_project(repository, root))
        except ComponentError:
            continue
    return projects


# -- what of it -------------------------------------------------------------------------------------------------------


def _whole(project: Project, spec: Spec | None) -> Component:
    layout = find_layout(project, _source(project, spec))
    return _component(project, _own_name(project, layout), layout, layout.modules, spec)


def _match(project: Project, wanted: str, spec: Spec | None) -> Component | None:
    """The component of ``project`` that ``wanted`` names, if any."""
    layout = find_layout(project, project.table.source)
    own = _own_name(project, layout)
    folders = {project.root, Path(project.root).name} if project.root != "." else set()
    if _key(wanted) in map(_key, {own, project.name or own}) or Path(wanted).as_posix() in folders:
        return _whole(project, spec) if layout.modules or _source(project, spec) else None
    depth = wanted.count(".") + 1
    modules = [module for module in layout.modules if _key(".".join(module.name.split(".")[:depth])) == _key(wanted)]
    if not modules:
        return None
    name = ".".join(modules[0].name.split(".")[:depth])
    if spec and spec.source:
        layout = find_layout(project, spec.source)
        return _component(project, name, layout, layout.modules, spec)
    return _component(project, name, layout, modules, spec)


def _component(project: Project, name: str, layout: Layout, modules: Sequence[Module], spec: Spec | None) -> Component:
    table = project.table
    kept = _filtered(modules, table.modules.include, table.modules.exclude)
    if spec and spec.modules:
        kept = _filtered(kept, spec.modules, ())
    if not kept:
        raise ComponentError(
            f"The component {name!r} in {str(project.folder)!r} holds no Python module to work on.",
            "Name its source ('source: path' in the spec or in [tool.tta]), and look at [tool.tta.modules].",
        )
    return Component(
        name=_valid_name(name),
        root=project.root,
        import_root=layout.import_root,
        tests=_tests(project, layout, spec),
        modules=tuple(kept),
        requires_python=project.requires_python,
        extras=_for_tests(table.extras, project.extras, (spec.extras if spec else ())),
        groups=_for_tests(table.groups, project.groups, ()),
    )


def _filtered(modules: Iterable[Module], include: Sequence[str], exclude: Sequence[str]) -> list[Module]:
    def matches(module: Module, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(module.name, pattern) or module.path == pattern for pattern in patterns)

    return [m for m in modules if (not include or matches(m, include)) and not matches(m, exclude)]


def _source(project: Project, spec: Spec | None) -> str | None:
    return (spec.source if spec else None) or project.table.source


def _tests(project: Project, layout: Layout, spec: Spec | None) -> str:
    explicit = (spec.tests if spec else None) or project.table.tests
    if explicit is None:
        return find_tests(project, layout)
    if not stays_inside(project.folder / explicit, project.folder):
        raise ComponentError(f"The tests folder {explicit!r} leads out of the project.", "Give a folder inside it.")
    return explicit


def _for_tests(table: tuple[str, ...] | None, declared: tuple[str, ...], spec: tuple[str, ...]) -> tuple[str, ...]:
    """Extras or groups the tests need: those that are asked for, else those named after tests, else ``dev``."""
    if spec or table is not None:
        return spec or table or ()
    tests = tuple(name for name in declared if _key(name) in {"test", "tests", "testing"})
    return tests or tuple(name for name in declared if _key(name) == "dev")


# -- names ------------------------------------------------------------------------------------------------------------


def _own_name(project: Project, layout: Layout) -> str:
    if name := project.table.component or project.name:
        return name
    folder = project.folder.resolve().name
    return layout.packages[0] if len(layout.packages) == 1 else folder


def _key(name: str) -> str:
    """Names are compared as packaging does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _valid_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-._")[:100] or "component"


def _unknown(wanted: str, projects: Iterable[Project]) -> ComponentError:
    candidates = _candidates(projects)
    near = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    there = f"There are: {_listed(candidates)}." if candidates else "No Python was found there at all."
    return ComponentError(f"No component is called {wanted!r}.", hint + there)


def _candidates(projects: Iterable[Project]) -> list[str]:
    """Every name that would be understood, the widest first."""
    names: dict[str, None] = {}
    modules: dict[str, None] = {}
    for project in projects:
        layout = find_layout(project, project.table.source)
        if layout.modules:
            names |= dict.fromkeys([_own_name(project, layout), *layout.packages])
            modules |= dict.fromkeys(module.name for module in layout.modules)
    return [*names, *(name for name in modules if name not in names)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
