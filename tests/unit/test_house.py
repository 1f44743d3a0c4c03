"""What keeps the house in order: nothing configured that nothing reads, nothing imported that is not declared."""

import ast
import enum
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

import pytest
from typer.main import get_command

import streamptycho
from streamptycho import config, messages
from streamptycho.cli.commands import app
from streamptycho.stages.services import SERVICES

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamptycho"
MODULES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}
MAX_LINES = 450
OPTIONAL = {"cupy", "cupyx", "tomopy", "bitshuffle", "dectris"}
README = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else ""


def attributes_read(skip: str = "") -> set[str]:
    """Return the names that any module other than `skip` reads as an attribute."""
    return {
        node.attr
        for name, tree in TREES.items()
        if name != skip
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def fenced(language: str) -> list[str]:
    """Return the code blocks of a language in the README."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Yield the words of every command in the README."""
    for line in "".join(fenced("sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def test_no_module_outgrows_its_purpose() -> None:
    long = {name: text.count("\n") for name, text in MODULES.items() if text.count("\n") > MAX_LINES}
    assert not long


def test_every_module_says_what_it_is() -> None:
    assert not [name for name, tree in TREES.items() if len((ast.get_docstring(tree) or "").split()) < 3]


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert not [name for name, text in MODULES.items() if marks.search(text)]


def test_no_module_takes_what_another_keeps_to_itself() -> None:
    taken = [
        f"{name}: {node.module}.{alias.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamptycho")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not taken


def test_every_configuration_key_is_read() -> None:
    read = attributes_read(skip="streamptycho/config.py")
    sections = [kind for kind in vars(config).values() if inspect.isclass(kind) and issubclass(kind, config.Section)]
    # the pipeline names the addresses of its services by the name of the service
    indirect = set(config.PipelineConfig.model_fields) & set(SERVICES)
    keys = {f"{kind.__name__}.{key}" for kind in sections for key in kind.model_fields if key not in read | indirect}
    assert not keys


@pytest.mark.parametrize("kind", [messages.Reason, messages.Quality], ids=lambda kind: kind.__name__)
def test_every_reason_and_quality_is_given_by_something(kind: type[enum.Enum]) -> None:
    """Explaining a reason to the operator does not count as giving it."""
    elsewhere = {
        node.attr
        for name, tree in TREES.items()
        if name not in ("streamptycho/messages.py", "streamptycho/monitor/wording.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == kind.__name__
    }
    assert {member.name for member in kind} <= elsewhere


def test_every_service_has_its_main_and_no_main_is_left_over() -> None:
    mains = {path.stem: ast.parse(path.read_text()) for path in (ROOT / "services").glob("*.py")}
    assert set(mains) == set(SERVICES)
    for name, tree in mains.items():
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert strings.count(name) == 1, f"services/{name}.py must start the service {name}"


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    roots = {
        module.split(".")[0]
        for tree in TREES.values()
        for node in ast.walk(tree)
        for module in _modules(node)
        if module.split(".")[0] not in sys.stdlib_module_names
    } - {"streamptycho"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_canonical(re.split(r"[<>=;\[ ]", line)[0]) for line in project["dependencies"]}
    distributions = packages_distributions()
    imported = {_canonical(name) for root in roots - OPTIONAL for name in distributions.get(root, [root])}
    assert not imported - declared
    # uvicorn looks for it by itself, to speak WebSocket
    assert declared - imported == {"websockets"}


def test_shipped_configurations_are_those_of_the_folder_and_travel_with_the_package() -> None:
    inside = {entry.name for entry in (files(streamptycho) / "configs").iterdir()}
    assert inside == {path.name for path in (ROOT / "configs").iterdir()}
    assert "demo.yaml" in inside
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert {"py.typed", "configs/*.yaml", "monitor/static/*"} <= set(data["streamptycho"])


@pytest.mark.skipif(not README, reason="there is no README.md yet")
def test_commands_of_the_readme_exist() -> None:
    group = get_command(app)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = 0
    with group.make_context("streamptycho", [], resilient_parsing=True) as context:
        for words in commands():
            if words[0] == "streamptycho":
                command = group.get_command(context, words[1])
                assert command is not None, f"no command is called {words[1]!r}"
                command.make_context(words[1], words[2:], parent=context)
                seen += 1
            elif words[0] == "make":
                assert {word for word in words[1:] if "=" not in word} <= targets
                seen += 1
    assert seen


@pytest.mark.skipif(not README, reason="there is no README.md yet")
def test_python_of_the_readme_imports_what_exists() -> None:
    for block in fenced("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamptycho"):
                names = ", ".join(alias.name for alias in node.names)
                exec(f"from {node.module} import {names}", {})


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module]
    return []


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
