"""The documentation says what is true: links, commands, paths, dependencies, and tables that are made of the code.

`GOLDSMITH_WRITE_DOCS=1 pytest tests/unit/test_docs.py` writes the tables of docs/errors.md, docs/testing.md and
docs/embedded-node.md anew; without it they are compared.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from goldsmith.base import errors
from goldsmith.base.errors import GoldsmithError
from goldsmith.cli.main import goldsmith
from goldsmith.definition.hygiene import HYGIENE_CHECKS, LIMITED_CHECKS
from goldsmith.node.api import import_methods
from goldsmith.node.routing import METHODS, Method

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "goldsmith"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:)([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|^(?: {4}[^\n]*\n?)+|`[^`\n]+`", re.MULTILINE | re.DOTALL)
WRITE = bool(os.environ.get("GOLDSMITH_WRITE_DOCS"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def list_code(page: Path) -> list[str]:
    """All code of a page: blocks, indented lines, and spans."""
    return [found[0] for found in CODE.finditer(read(page))]


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and most others make them."""
    prose = re.sub(r"^```.*?^```", "", read(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} +(.+?) *$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    broken = []
    for link in LINK.findall(read(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in list_anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_index_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(read(DOCS / "README.md"))}
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked


COMMON_FOLDERS = frozenset(
    ("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run", "sbin", "srv",
     "sys", "tmp", "usr", "var")
)  # fmt: skip
"""What every Linux has at its top (hier(7))."""
API_FOLDERS = frozenset(
    ("access", "api2", "cluster", "mapping", "nodes", "pool", "pools", "sdn", "storage", "version", "vms")
)


@each_page
def test_no_page_names_a_folder_that_only_one_machine_has(page: Path) -> None:
    tops = re.findall(r"(?<![\w./~*}>$)'\]])/([A-Za-z][\w.-]*)", read(page))
    assert set(tops) - COMMON_FOLDERS - API_FOLDERS == set()
    assert re.findall(r"/tmp/[\w-]+|/home/(?!ops\b|you\b)\w+", read(page)) == []


def find_command(words: list[str]) -> tuple[click.Command | None, list[str]]:
    """The command that the first words name, and the words after it; None where there is none."""
    command: click.Command = goldsmith
    context = click.Context(goldsmith)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0]) and words[0][0] != "-":
        found = command.get_command(context, words[0])
        if found is None:
            return None, words
        command, words = found, words[1:]
    return command, words


def list_options(command: click.Command) -> set[str]:
    context = click.Context(command)
    named = {name for parameter in command.get_params(context) for name in [*parameter.opts, *parameter.secondary_opts]}
    return named | {"--help", "-h", "--version"}


def list_command_lines(page: Path) -> list[list[str]]:
    """What stands after `goldsmith` in code, up to where the command ends. A placeholder in capitals is no command."""
    lines = [line for code in list_code(page) for line in code.splitlines()]
    pattern = re.compile(r"(?:^|[`$] *|sudo |bin/|&& )goldsmith ([a-z-][^`|&#;]*)")
    return [found[1].split() for line in lines for found in pattern.finditer(line.strip())]


@each_page
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    unknown = []
    for words in list_command_lines(page):
        command, rest = find_command([word for word in words if word not in ("--json", "--verbose", "...")])
        options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
        if command is None or not set(options) <= list_options(command):
            unknown.append(" ".join(words))
    assert unknown == []


@each_page
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    makefiles = [ROOT / "Makefile", SOURCE / "cli" / "skeleton" / "Makefile"]
    targets = set(re.findall(r"^([a-z%-]+):", "\n".join(map(read, makefiles)), re.MULTILINE))
    named = {name for code in list_code(page) for name in re.findall(r"\bmake ([a-z][a-z-]*)", code)}
    assert {
        name for name in named if name not in targets and re.sub(r"^\w+?-image", "%-image", name) not in targets
    } == set()


def compare_block(page: Path, name: str, content: str) -> None:
    """Compare a page's block between two marks with what it should be, or write it."""
    begin, end = f"<!-- {name}: made of the code by tests/unit/test_docs.py -->", f"<!-- end of {name} -->"
    before, found, rest = read(page).partition(begin)
    assert found, f"{page.name} has no block '{name}'"
    block, found, after = rest.partition(end)
    assert found, f"the block '{name}' of {page.name} has no end"
    if WRITE:
        page.write_text(f"{before}{begin}\n\n{content}\n{end}{after}", encoding="utf-8")
        return
    hint = "stale; write it anew: GOLDSMITH_WRITE_DOCS=1 pytest tests/unit/test_docs.py"
    assert block.strip() == content.strip(), f"the block '{name}' of {page.name} is {hint}"


def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = [f"| {'&emsp;' * depth}`{kind.__name__}` | {kind.exit_code} | {explain(kind)} |" for kind, depth in walk()]
    compare_block(
        DOCS / "errors.md", "errors", "\n".join(["| error | exit code | meaning |", "| --- | --- | --- |", *rows])
    )


def walk(kind: type[GoldsmithError] = GoldsmithError, depth: int = 0) -> Iterator[tuple[type[GoldsmithError], int]]:
    """The tree of errors from its root, in the order of the source; only those that every room knows."""
    yield kind, depth
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from walk(child, depth + 1)


def explain(kind: type[GoldsmithError]) -> str:
    text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return " ".join(text.split())


def test_the_table_of_checks_is_that_of_the_code() -> None:
    units = {name: f"; limit in {unit}" for name, unit in LIMITED_CHECKS.items()}
    rows = [f"| `{name}` | {meaning}{units.get(name, '')} |" for name, meaning in HYGIENE_CHECKS.items()]
    compare_block(DOCS / "testing.md", "hygiene", "\n".join(["| check | what it looks at |", "| --- | --- |", *rows]))


VERBS = ("GET", "POST", "PUT", "DELETE")


def test_the_table_of_endpoints_is_that_of_the_node() -> None:
    import_methods()
    by_path: dict[str, list[Method]] = {}
    for method in sorted(METHODS, key=lambda method: (method.path, VERBS.index(method.verb))):
        by_path.setdefault(method.path, []).append(method)
    rows = [f"| `{path}` | {'<br>'.join(dict.fromkeys(map(describe, methods)))} |" for path, methods in by_path.items()]
    compare_block(DOCS / "embedded-node.md", "endpoints", "\n".join(["| path | methods |", "| --- | --- |", *rows]))


def describe(method: Method) -> str:
    said = inspect.cleandoc(method.code.__doc__ or "").partition("\n")[0]
    return f"{method.verb}: {said}"


def list_rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading of docs/dependencies.md: its other cells by the name in its first one."""
    section = read(DOCS / "dependencies.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


def list_declared(kind: str) -> set[str]:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    wanted = {
        "runtime": project["project"]["dependencies"],
        "dev": project["project"]["optional-dependencies"]["dev"],
        "build": project["build-system"]["requires"],
    }[kind]
    return {re.split(r"[<>=!~;\[ ]", name, maxsplit=1)[0] for name in wanted}


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("What goldsmith needs to run", "runtime"),
        ("What the tests and the gate need", "dev"),
        ("What makes the package", "build"),
    ],
)
def test_every_dependency_is_explained_and_none_is_stale(heading: str, kind: str) -> None:
    assert set(list_rows(heading)) == list_declared(kind)


def test_every_system_package_is_explained_and_none_is_stale() -> None:
    text = read(ROOT / "Makefile").replace("\\\n", " ")
    packages = re.search(r"^PACKAGES *:= *(.+)$", text, re.MULTILINE)
    assert packages is not None
    assert set(list_rows("Programs of the system")) == set(packages[1].split())
    script = read(ROOT / "tests" / "install-packages.sh").replace("\\\n", " ")
    packages = re.search(r"^\s*(?:\w+=\S+ )*apt-get install((?: +[a-z-][\w.+-]*)+)", script, re.MULTILINE)
    assert packages is not None
    assert set(list_rows("Programs that only the tests need")) == {
        word for word in packages[1].split() if not word.startswith("-")
    }


IMPORTED_AS = {"ansible-core": "ansible", "libpass": "passlib", "pyyaml": "yaml"}
"""Import names that are not the package's own."""


@functools.cache
def list_importers() -> dict[str, set[str]]:
    """Files below src/goldsmith by the top-level module that they import; a new project's own files do not count."""
    found: dict[str, set[str]] = {}
    for file in (file for file in SOURCE.rglob("*.py") if "skeleton" not in file.parts):
        for node in ast.walk(ast.parse(read(file))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(str(file.relative_to(SOURCE)))
    return found


@pytest.mark.parametrize("package", sorted(list_declared("runtime")))
def test_the_doors_of_a_dependency_are_those_that_are_named(package: str) -> None:
    importers = list_importers().get(IMPORTED_AS.get(package, package.replace("-", "_")), set())
    doors = set(re.findall(r"`([a-z_/]+(?:\.py|/))`", list_rows("What goldsmith needs to run")[package][1]))
    assert {file for file in importers if not any(file == door or file.startswith(door) for door in doors)} == set()
    assert {door for door in doors if not (SOURCE / door).exists()} == set()
    unused = {
        door for door in doors if importers and not any(file == door or file.startswith(door) for file in importers)
    }
    assert unused == set()


def test_every_environment_variable_that_the_docs_name_is_read_by_the_code() -> None:
    code = "\n".join(read(file) for folder in (SOURCE, ROOT / "tests") for file in folder.rglob("*.py"))
    named = {name for page in PAGES for name in re.findall(r"\bGOLDSMITH_[A-Z_]*[A-Z]\b", read(page))}
    assert {name for name in named if name not in code} == set()


def test_the_oldest_python_is_the_same_everywhere() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert sys.version_info >= tuple(map(int, oldest.split(".")))
    assert f"Python {oldest}" in read(DOCS / "dependencies.md")
