"""Finding components and planning gates."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.planner import component_table, find_component, plan_gates
from orchestrator.project import ComponentTable
from orchestrator.spec import Spec, read_spec
from tta_tasks.errors import ComponentError
from tta_tasks.models import DEFAULT_GATES, Component, Target

CODE = "def one():\n    return 1\n"
SLUGIFY = '[project]\nname = "python-slugify"\nrequires-python = ">=3.9"\n'


def tree(folder: Path, *modules: str) -> Path:
    """Write modules with some code, and the folders they need."""
    for module in modules:
        path = folder / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CODE)
    return folder


def project(folder: Path, pyproject: str, *modules: str) -> Path:
    tree(folder, *modules)
    (folder / "pyproject.toml").write_text(pyproject)
    return folder


def spec(**values: object) -> Spec:
    return Spec.model_validate({"title": "T", "text": "", "name": "t.md"} | values)


def names(component: Component) -> list[str]:
    return [module.name for module in component.modules]


def test_src_layout(tmp_path: Path) -> None:
    """The import root is ``src``, and what is not product code is left out."""
    repository = project(
        tmp_path,
        SLUGIFY,
        "src/slugify/__init__.py",
        "src/slugify/__main__.py",
        "src/slugify/core/text.py",
        "src/slugify/_vendor/six.py",
        "src/slugify/tests/test_text.py",
        "src/slugify/conftest.py",
        "src/slugify/test_inline.py",
        "docs/conf.py",
        "setup.py",
        "tests/test_slugify.py",
    )
    component = find_component(repository)
    assert component.name == "python-slugify"
    assert (component.root, component.import_root, component.tests) == (".", "src", "tests")
    assert component.requires_python == ">=3.9"
    assert names(component) == ["slugify", "slugify.__main__", "slugify.core.text"]
    assert component.modules[2].path == "src/slugify/core/text.py"


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.cfg"])
@pytest.mark.parametrize("kind", ["pipe", "link out", "endless", "folder"])
def test_what_is_no_file_of_the_repository_is_not_read(tmp_path: Path, name: str, kind: str) -> None:
    """A pipe is not waited for, and a link out of the repository not followed; a link within it is."""
    repository = tree(tmp_path / "repository", "calc.py")
    (tmp_path / "outside").write_text(
        '[project]\nname = "outside"\n' if "toml" in name else "[metadata]\nname = outside"
    )
    place = repository / name
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "link out":
            place.symlink_to(tmp_path / "outside")
        case "endless":
            place.symlink_to("/dev/zero")
        case "folder":
            place.mkdir()
    if name == "pyproject.toml":
        with pytest.raises(ComponentError, match="cannot be read"):
            find_component(repository)
    else:
        assert find_component(repository).name == "calc"
    place.rmdir() if kind == "folder" else place.unlink()
    (repository / "kept").write_bytes((tmp_path / "outside").read_bytes())
    place.symlink_to("kept")
    assert find_component(repository).name == "outside"


def test_flat_layout(tmp_path: Path) -> None:
    """Packages beside ``pyproject.toml`` are found; scripts, docs, examples and build folders beside them are not."""
    beside = [
        "setup.py",
        "noxfile.py",
        "dev.py",
        "test.py",
        "docs/conf.py",
        "examples/__init__.py",
        "build/lib/slugify.py",
    ]
    component = find_component(project(tmp_path, SLUGIFY, "slugify/__init__.py", "slugify/special.py", *beside))
    assert names(component) == ["slugify", "slugify.special"]
    assert component.import_root == "."
    assert component.tests == "tests"


def test_a_single_module(tmp_path: Path) -> None:
    """A distribution that is one file is a component, and the test beside it is where its tests are."""
    repository = project(tmp_path, '[project]\nname = "inflection"\n', "inflection.py", "test_inflection.py")
    component = find_component(repository)
    assert (component.name, names(component), component.tests) == ("inflection", ["inflection"], ".")


def test_a_folder_without_project_metadata(tmp_path: Path) -> None:
    """Python without ``pyproject.toml`` is named after its package."""
    assert find_component(tree(tmp_path, "shapes/__init__.py", "shapes/round.py")).name == "shapes"


def test_setup_cfg_is_the_fallback(tmp_path: Path) -> None:
    """Older projects say name and Python in ``setup.cfg``."""
    tree(tmp_path, "old/__init__.py", "setup.py")
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = old-thing\n[options]\npython_requires = >=3.8\n")
    component = find_component(tmp_path)
    assert (component.name, component.requires_python) == ("old-thing", ">=3.8")


def test_namespace_packages_in_src(tmp_path: Path) -> None:
    """A folder without ``__init__.py`` is part of the dotted name."""
    repository = project(tmp_path, '[project]\nname = "acme.tool"\n', "src/acme/tool/run.py")
    assert names(find_component(repository)) == ["acme.tool.run"]


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("", False),
        ('"""Words."""\n', False),
        ('"""Words."""\n__version__ = "1.0"\n', False),
        ("from .text import one\n", True),
        ("LIMIT = 3\n", True),
        ("def broken(:\n", True),
        ("\0", True),
    ],
)
def test_modules_without_statements_are_not_listed(tmp_path: Path, text: str, *, listed: bool) -> None:
    """An empty ``__init__.py`` has nothing to test; one that does not parse is listed, for its task to say so."""
    project(tmp_path, SLUGIFY, "slugify/text.py")
    (tmp_path / "slugify/__init__.py").write_text(text)
    assert ("slugify" in names(find_component(tmp_path))) is listed


def test_version_files_are_not_listed(tmp_path: Path) -> None:
    """Generated version files are skipped, a module of that name with code is not."""
    project(tmp_path, SLUGIFY, "slugify/__init__.py", "slugify/version.py", "slugify/_version.py")
    (tmp_path / "slugify/_version.py").write_text("TYPE_CHECKING = False\nif TYPE_CHECKING:\n    pass\nversion = '1'\n")
    assert names(find_component(tmp_path)) == ["slugify", "slugify.version"]


@pytest.mark.parametrize(
    ("name", "found", "modules"),
    [
        ("python-slugify", "python-slugify", ["slugify", "slugify.special", "slugify.special.de"]),
        ("Python_Slugify", "python-slugify", ["slugify", "slugify.special", "slugify.special.de"]),
        ("slugify", "slugify", ["slugify", "slugify.special", "slugify.special.de"]),
        ("slugify.special", "slugify.special", ["slugify.special", "slugify.special.de"]),
        ("slugify.special.de", "slugify.special.de", ["slugify.special.de"]),
        ("slugify/special", "slugify.special", ["slugify.special", "slugify.special.de"]),
    ],
)
def test_what_a_name_may_be(tmp_path: Path, name: str, found: str, modules: list[str]) -> None:
    """A distribution (in any spelling), a package, a module or a folder name a component."""
    repository = project(
        tmp_path, SLUGIFY, "slugify/__init__.py", "slugify/special/__init__.py", "slugify/special/de.py"
    )
    component = find_component(repository, name=name)
    assert names(component) == modules
    assert component.name == found


def monorepo(folder: Path) -> Path:
    for name in ("alpha", "beta"):
        project(folder / f"packages/{name}-lib", f'[project]\nname = "acme-{name}"\n', f"packages/{name}-lib/x.py"[-4:])
        tree(folder / f"packages/{name}-lib", f"src/{name}/__init__.py", "tests/test_it.py")
    return folder


@pytest.mark.parametrize("name", ["acme-alpha", "alpha", "alpha-lib", "packages/alpha-lib", "./packages/alpha-lib/"])
def test_a_monorepo_subfolder(tmp_path: Path, name: str) -> None:
    """A project below the repository is found by distribution, package, or folder; its paths are relative to it."""
    component = find_component(monorepo(tmp_path), name=name)
    assert (component.root, component.import_root, component.tests) == ("packages/alpha-lib", "src", "tests")
    assert component.modules[0].path == "src/alpha/__init__.py"


def test_root_chooses_the_project_folder(tmp_path: Path) -> None:
    """``root`` wins over searching, and must be a folder inside."""
    assert find_component(monorepo(tmp_path), root="packages/beta-lib").name == "acme-beta"
    for outside in ("..", "packages/gamma", "/etc"):
        with pytest.raises(ComponentError, match="not a folder of the repository"):
            find_component(tmp_path, root=outside)
    with pytest.raises(ComponentError, match="No component is called 'alpha'"):
        find_component(tmp_path, root="packages/beta-lib", name="alpha")


def test_root_may_be_a_package_of_a_project(tmp_path: Path) -> None:
    """A package's folder stands for that part of the project around it."""
    project(tmp_path, SLUGIFY, "src/slugify/__init__.py", "src/other/__init__.py")
    component = find_component(tmp_path, root="src/slugify")
    assert (component.name, component.root, component.import_root) == ("slugify", ".", "src")
    assert names(component) == ["slugify"]


def test_a_repository_with_one_project_below_needs_no_name(tmp_path: Path) -> None:
    """Where there is no choice, none is asked for."""
    project(tmp_path / "backend", SLUGIFY, "slugify/__init__.py")
    assert find_component(tmp_path).root == "backend"


def test_several_candidates_are_listed(tmp_path: Path) -> None:
    """Without a name, several components are a question to the person."""
    with pytest.raises(ComponentError, match="several components: acme-alpha") as caught:
        find_component(monorepo(tmp_path))
    assert "acme-beta" in caught.value.message
    assert "--component" in caught.value.hint


def test_an_ambiguous_name_lists_its_folders(tmp_path: Path) -> None:
    """Two projects with one package name are told apart by folder."""
    for folder in ("a", "b"):
        project(tmp_path / folder, f'[project]\nname = "dist-{folder}"\n', "shared/__init__.py")
    with pytest.raises(ComponentError, match=r"'shared': a, b"):
        find_component(tmp_path, name="shared")


def test_an_unknown_name_is_answered_with_candidates(tmp_path: Path) -> None:
    """A misspelt name gets the closest one and what else there is."""
    with pytest.raises(ComponentError, match="No component is called 'slugfy'") as caught:
        find_component(project(tmp_path, SLUGIFY, "slugify/__init__.py", "slugify/special.py"), name="slugfy")
    assert "Did you mean 'slugify'?" in caught.value.hint
    assert "slugify.special" in caught.value.hint


def test_a_misspelt_option_does_not_rename_the_spec_s_component(tmp_path: Path) -> None:
    """A spec says what its own name stands for, and not what any other does."""
    repository = project(tmp_path, SLUGIFY, "slugify/__init__.py")
    spec = Spec(title="Slugs", text="", name="slugs.md", component="slugs", source="slugify")
    assert find_component(repository, spec=spec).name == "slugs"
    with pytest.raises(ComponentError, match="No component is called 'slgus'"):
        find_component(repository, name="slgus", spec=spec)


def test_a_prefix_is_no_package(tmp_path: Path) -> None:
    """``slug`` does not name ``slug_fast``."""
    repository = project(tmp_path, SLUGIFY, "slug/__init__.py", "slug_fast/__init__.py")
    assert names(find_component(repository, name="slug")) == ["slug"]


@pytest.mark.parametrize("files", [(), ("README.md",), ("tests/test_x.py",), ("slugify/my-script.py",)])
def test_a_component_without_python(tmp_path: Path, files: tuple[str, ...]) -> None:
    """A repository with no importable module is refused, named or not."""
    repository = project(tmp_path, SLUGIFY, *files)
    with pytest.raises(ComponentError, match="no Python module"):
        find_component(repository)
    with pytest.raises(ComponentError, match=r"No component is called|no Python module"):
        find_component(repository, name="slugify")
    with pytest.raises(ComponentError, match="no repository"):
        find_component(tmp_path / "nowhere")


def test_the_spec_names_component_source_tests_and_modules(tmp_path: Path) -> None:
    """Front matter wins over conventions; the option wins over the spec."""
    project(tmp_path, SLUGIFY, "code/slugify/a.py", "code/slugify/__init__.py", "code/slugify/b.py", "checks/test_a.py")
    given = spec(component="slugify", source="code/slugify", tests="checks", extras=["fast"], modules=["slugify.a"])
    component = find_component(tmp_path, spec=given)
    assert (component.import_root, component.tests, component.extras) == ("code", "checks", ("fast",))
    assert names(component) == ["slugify.a"]
    with pytest.raises(ComponentError, match="'other'"):
        find_component(tmp_path, name="other", spec=spec(component="slugify"))


@pytest.mark.parametrize("source", ["nowhere", "link"])
def test_a_source_that_does_not_hold(tmp_path: Path, source: str) -> None:
    """A source that is missing, or a symlink out of the repository, is refused."""
    outside = tree(tmp_path / "outside", "secret.py")
    repository = project(tmp_path / "repository", SLUGIFY, "slugify/__init__.py")
    (repository / "link").symlink_to(outside)
    with pytest.raises(ComponentError, match=f"source '{source}'"):
        find_component(repository, spec=spec(source=source))


def test_symlinks_that_lead_out_are_ignored(tmp_path: Path) -> None:
    """Nothing outside the repository becomes part of a component, by folder, by file or as tests."""
    outside = tree(tmp_path / "outside", "leaked/__init__.py", "leaked.py", "test_x.py")
    repository = project(tmp_path / "repository", SLUGIFY, "slugify/__init__.py")
    (repository / "src").symlink_to(outside)
    (repository / "leaked").symlink_to(outside / "leaked")
    (repository / "slugify/leaked.py").symlink_to(outside / "leaked.py")
    (repository / "slugify/loop.py").symlink_to("loop.py")
    (repository / "tests").symlink_to(outside)
    component = find_component(repository)
    assert names(component) == ["slugify"]
    assert component.tests == "tests"  # the habit, not the link's content
    with pytest.raises(ComponentError, match="leads out"):
        find_component(repository, spec=spec(tests="tests"))


def test_planning_runs_nothing_of_the_repository(tmp_path: Path) -> None:
    """Modules, ``setup.py`` and ``conftest.py`` are read, never executed."""
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    tree(tmp_path / "r", "trap/__init__.py")
    for path in ("setup.py", "conftest.py", "trap/__init__.py"):
        (tmp_path / "r" / path).write_text(trap)
    assert names(find_component(tmp_path / "r")) == ["trap"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("extra", "files", "expected"),
    [
        ("", ["test/test_a.py"], "test"),
        ("", ["testing/test_a.py"], "testing"),
        ("", ["slugify/tests/test_a.py"], "slugify/tests"),
        ('[tool.pytest.ini_options]\ntestpaths = ["slugify", "checks"]\n', ["checks/test_a.py"], "checks"),
        ('[tool.tta]\ntests = "spec/unit"\n', ["tests/test_a.py"], "spec/unit"),
    ],
)
def test_where_tests_are(tmp_path: Path, extra: str, files: list[str], expected: str) -> None:
    """Configured, conventional, or inside the package; never a folder that holds the product."""
    assert find_component(project(tmp_path, SLUGIFY + extra, "slugify/__init__.py", *files)).tests == expected


@pytest.mark.parametrize(
    ("text", "extras", "groups"),
    [
        ("", (), ()),
        ("[project.optional-dependencies]\ntest = []\ndocs = []\n[dependency-groups]\ndev = []\n", ("test",), ("dev",)),
        ("[dependency-groups]\ndev = []\ntests = []\n", (), ("tests",)),
        ('[dependency-groups]\ndev = []\n[tool.tta]\ngroups = []\nextras = ["all"]\n', ("all",), ()),
    ],
)
def test_what_the_tests_need_installed(
    tmp_path: Path, text: str, extras: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    """Extras and groups named after tests are taken, else ``dev``, unless the component says otherwise."""
    component = find_component(project(tmp_path, SLUGIFY + text, "slugify/__init__.py"))
    assert (component.extras, component.groups) == (extras, groups)


def test_modules_are_included_and_excluded_by_pattern(tmp_path: Path) -> None:
    """``[tool.tta.modules]`` narrows the component."""
    table = '[tool.tta.modules]\ninclude = ["slugify.*"]\nexclude = ["*.gen_*", "slugify/c.py"]\n'
    project(tmp_path, SLUGIFY + table, *(f"slugify/{name}.py" for name in ("__init__", "a", "gen_b", "c")))
    assert names(find_component(tmp_path)) == ["slugify.a"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[tool.tta]\ncoverge = 1\n", "tool.tta.coverge", "'coverage'?"),
        ("[tool.tta.gates]\nlimt = 1\n", "tool.tta.gates.limt", "'lint'?"),
        ("[tool.tta.gates.staging]\nx = 1\n", "tool.tta.gates.staging.x", "pass_rate"),
        ("[tool.tta.gates]\ncoverage = 101\n", "tool.tta.gates.coverage to 101", ""),
        ("[tool.tta.gates]\nlint = 1\n", "tool.tta.gates.lint to 1", ""),
        ("[tool.tta.gates.dev]\ncoverage = '50'\n", "tool.tta.gates.dev.coverage to '50'", ""),
        ("[tool.tta]\nextras = 'all'\n", "tool.tta.extras", ""),
        ("[tool.tta]\nsource = '../x'\n", "tool.tta.source", ""),
        ("[tool]\ntta = 3\n", "tool.tta", ""),
        ("[tool.tta\n", "is not TOML", ""),
        ("a = " + "[" * 3000, "is not TOML", ""),
    ],
)
def test_configuration_that_does_not_hold(tmp_path: Path, text: str, message: str, hint: str) -> None:
    """A typing error in ``[tool.tta]`` is named with its place, and corrected where it can be guessed."""
    with pytest.raises(ComponentError) as caught:
        find_component(project(tmp_path, SLUGIFY + text, "slugify/__init__.py"))
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_broken_neighbour_does_not_hinder(tmp_path: Path) -> None:
    """Another project's broken configuration is not this component's fault."""
    project(monorepo(tmp_path) / "packages/broken", "[", "x.py")
    assert find_component(tmp_path, name="alpha").name == "alpha"


@pytest.mark.parametrize("target", Target)
def test_gates_are_the_targets_own_by_default(target: Target) -> None:
    """An empty table changes nothing."""
    assert plan_gates(ComponentTable(), target) == DEFAULT_GATES[target]


def test_gates_are_overridden_from_wide_to_narrow(tmp_path: Path) -> None:
    """``coverage``, ``gates``, the target's own gates, and the option: each wins over what comes before."""
    table = "[tool.tta]\ncoverage = 60\n[tool.tta.gates]\ntypes = false\nlint = true\n"
    table += "[tool.tta.gates.production]\ncoverage = 90\n"
    repository = project(tmp_path, SLUGIFY + table, "slugify/__init__.py")
    read = component_table(repository, find_component(repository))
    assert plan_gates(read, Target.DEV).coverage == 60
    assert plan_gates(read, Target.DEV).lint
    production = plan_gates(read, Target.PRODUCTION)
    assert (production.coverage, production.types, production.security) == (90, False, True)
    assert plan_gates(read, Target.PRODUCTION, coverage=42.0).coverage == 42


def test_gates_of_packages_are_overridden_by_name(tmp_path: Path) -> None:
    """What a target says of one such gate leaves the others; which there are, only workers know."""
    table = "[tool.tta.gates.plugins]\nlicenses = ['MIT']\nwords = { banned = ['magic'] }\n"
    table += "[tool.tta.gates.production.plugins]\nlicenses = false\n"
    repository = project(tmp_path, SLUGIFY + table, "slugify/__init__.py")
    read = component_table(repository, find_component(repository))
    words = {"banned": ["magic"]}
    assert plan_gates(read, Target.STAGING).plugins == {"licenses": ["MIT"], "words": words}
    production = plan_gates(read, Target.PRODUCTION)
    assert production.plugins == {"licenses": False, "words": words}
    assert (production.enforced("licenses"), production.enforced("words")) == (False, True)


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    """Modules are sorted by name, also where a package has no ``__init__.py``."""
    repository = project(tmp_path, SLUGIFY, *(f"slugify/{name}.py" for name in ("z", "a", "m_b", "m")))
    assert names(find_component(repository)) == ["slugify.a", "slugify.m", "slugify.m_b", "slugify.z"]


def test_the_example_is_planned_as_its_spec_says() -> None:
    """``examples/calculator`` is found from its own folder and from this repository's root alike."""
    root = Path(__file__).parents[2]
    read = read_spec(root / "examples/calculator/specs/calculator.md")
    assert [criterion.id for criterion in read.criteria] == [f"AC{number}" for number in range(1, 8)]
    component = find_component(root / "examples/calculator", spec=read)
    assert (component.name, component.import_root, component.groups) == ("calculator", "src", ("test",))
    assert {"calculator.cli", "calculator.parser", "calculator.units"} < set(names(component))
    from_above = find_component(root, name="calculator", spec=read)
    assert from_above == component.model_copy(update={"root": "examples/calculator"})
    gates = plan_gates(component_table(root, from_above), Target.PRODUCTION, read.coverage)
    assert gates == DEFAULT_GATES[Target.PRODUCTION]
