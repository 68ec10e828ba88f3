"""Facts about two ways of counting on code that nobody here has written."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tta_tasks.models import Component, Module
from tta_tasks.protocols import Limits, Workspace
from workers.component.suite import run_suite
from workers.sandbox import detect_sandbox

CALCULATOR = Path(__file__).parents[2] / "examples" / "calculator"

#: Package -> tests that use much of it. ``packaging``, ``pluggy`` and ``iniconfig`` are pytest's own, and loaded early.
PACKAGES = {
    "click": """
        import click
        from click.testing import CliRunner

        @click.group(invoke_without_command=True)
        @click.option("--level", type=click.Choice(["a", "b"]), default="a", show_default=True, help="Level.")
        @click.option("--number", type=click.IntRange(0, 5), envvar="NUMBER")
        @click.option("--flag/--no-flag")
        @click.version_option("1.0")
        @click.pass_context
        def main(context, **options):
            "Main."
            click.echo(click.style(str(options), fg="red"))

        @main.command()
        @click.argument("path", type=click.Path(exists=True))
        @click.argument("rest", nargs=-1, type=click.FLOAT)
        @click.confirmation_option()
        def sub(path, rest):
            with click.progressbar(rest) as bar:
                for each in bar:
                    click.echo(each)
            click.echo(click.prompt("name", default="x"))

        def test():
            for words in (["--help"], ["sub", "--help"], ["--level", "c"], ["--number", "9"], ["--version"],
                          ["nothing"], ["sub", ".", "1", "2.5", "--yes"], ["sub", "/none"],
                          ["--flag", "sub", ".", "x"]):
                CliRunner().invoke(main, words, input="y\\nme\\n")
            click.echo(click.wrap_text("many words " * 30) if hasattr(click, "wrap_text") else "")
    """,
    "packaging": """
        import pytest
        from packaging import markers, metadata, requirements, specifiers, tags, utils, version

        def test():
            for text in "1.0", "1!2.3rc1.post2.dev3+local.7", "1.0a", "2024.1":
                assert version.parse(text) >= version.Version("0")
                assert str(version.parse(text))
            with pytest.raises(version.InvalidVersion):
                version.parse("no version")
            for text in ">=1,<2", "~=1.4.2", "==1.*", "!=1.5,===1.6", "<=3,>1":
                found = specifiers.SpecifierSet(text)
                assert list(found.filter(["1.4.2", "1.5", "1.6rc1", "2"])) is not None and hash(found)
            for text in "a[b,c]>=1; python_version < '3' and (os_name == 'nt' or extra == 'x')", "a @ https://b/c.whl":
                assert str(requirements.Requirement(text))
            assert markers.Marker("python_version > '2'").evaluate()
            assert list(tags.sys_tags()) and utils.canonicalize_name("A_b.c")
            utils.parse_wheel_filename("a_b-1.0-py3-none-any.whl")
            metadata.parse_email("Metadata-Version: 2.1\\nName: x\\nVersion: 1\\nRequires-Dist: a>1\\n\\nBody")
    """,
    "pluggy": """
        import pluggy
        spec, impl = pluggy.HookspecMarker("x"), pluggy.HookimplMarker("x")

        class Spec:
            @spec
            def many(self, a): ...
            @spec(firstresult=True)
            def one(self, a): ...

        class First:
            @impl(tryfirst=True)
            def many(self, a): return a
            @impl(wrapper=True)
            def one(self, a): return (yield) + 1

        class Second:
            @impl(trylast=True)
            def one(self, a): return a
            @impl(hookwrapper=True)
            def many(self):
                result = yield
                result.get_result()

        def test():
            manager = pluggy.PluginManager("x")
            manager.add_hookspecs(Spec)
            first = First()
            manager.register(first); manager.register(Second(), name="second")
            assert (manager.hook.many(a=1), manager.hook.one(a=1)) == ([1], 2)
            manager.check_pending(); manager.enable_tracing(); manager.hook.one(a=3)
            assert manager.get_name(first); manager.unregister(first); manager.set_blocked("second")
    """,
    "idna": """
        import idna, pytest

        def test():
            for text in "b\\u00fccher.example", "\\u05d0\\u05d1.com", "a", "\\u0646\\u200c\\u0627.com":
                assert idna.decode(idna.encode(text)) == text
            for text in "-a", "a\\u0301\\ud800", "x" * 70, "\\u2488", "":
                with pytest.raises(UnicodeError):
                    idna.encode(text)
            assert idna.encode("K\\u00f6ln", uts46=True, std3_rules=True)
    """,
    "pygments": """
        import pygments
        from pygments import formatters, lexers, styles

        def test():
            for name in "python", "html", "json", "c", "yaml", "bash":
                lexer = lexers.get_lexer_by_name(name)
                for form in "html", "latex", "svg", "terminal256", "rtf":
                    formatter = formatters.get_formatter_by_name(form)
                    assert pygments.highlight("def f(x): return 'a' + 1 # <b>{}</b>\\n", lexer, formatter)
            assert lexers.guess_lexer("#!/usr/bin/python\\n") and list(lexers.get_all_lexers())
            assert styles.get_style_by_name("xcode")
    """,
}


def component(folder: Path, python: Path, tests: str) -> Workspace:
    """A workspace of all modules below ``folder/tree/src``."""
    (folder / "scratch").mkdir()
    found = sorted((folder / "tree/src").rglob("*.py"))
    names = [path.relative_to(folder / "tree") for path in found]
    modules = tuple(
        Module(name=".".join(name.with_suffix("").parts[1:]).removesuffix(".__init__"), path=name.as_posix())
        for name in names
    )
    (folder / "tree/tests").mkdir(exist_ok=True)
    if tests:
        (folder / "tree/tests/test_use.py").write_text(tests)
    return Workspace(
        root=folder / "tree",
        component=Component(name="used", import_root="src", modules=modules),
        python=python,
        sandbox=detect_sandbox(),
        scratch=folder / "scratch",
        readable=(python.parents[1],),
        limits=Limits(wall_s=300, processes=4096),
    )


def agree(workspace: Workspace) -> int:
    """Both counts agree, counting changes no figure, and no test; answers how many statements are covered."""
    plain, counted = run_suite(workspace), run_suite(workspace, counted=True)
    assert (plain.failures, counted.failures, plain.aborted, counted.aborted) == ((), (), "", "")
    assert [each for each in counted.coverage if each.disputed_lines] == []
    assert counted.coverage == plain.coverage
    return sum(each.covered_statements for each in counted.coverage)


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_others_packages_are_counted_alike(tmp_path: Path, component_python: Path, package: str) -> None:
    """No line of them that coverage.py has seen is disputed."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    (source,) = spec.submodule_search_locations
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tmp_path / "tree" / "src" / package, ignore=ignored)
    tests = "\n".join(line.removeprefix(" " * 8) for line in PACKAGES[package].splitlines())
    assert agree(component(tmp_path, component_python, tests)) > 150


@pytest.mark.slow
def test_the_example_is_counted_alike(tmp_path: Path, component_python: Path) -> None:
    """No line of the calculator is disputed, with its own tests."""
    shutil.copytree(CALCULATOR, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__", ".tta"))
    assert agree(component(tmp_path, component_python, "")) > 50
