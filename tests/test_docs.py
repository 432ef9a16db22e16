"""The pages under docs/ are true: what they draw and name is what there is."""

import ast
import re
from functools import cache

import pytest
from conftest import ROOT
from test_layers import LAYERS

from truefit.closure import PACKAGE
from truefit.steps import STEPS

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
DRAWN = [label.split(", ") for label in re.findall(r'\bl\d+\["(.+?)"\]', ARCHITECTURE)]
# Outside of blocks of code; those between words, not the fences.
NAMED = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"(?ms)^```.*?^```$", "", ARCHITECTURE))
# What a step makes and reads, with the folders on the way.
FILES = {file for step in STEPS for file in (*step.inputs, *step.makes)}
FOLDERS = {file.rpartition("/")[0] for file in FILES}
EXAMPLE = {"greeting", "notebooks/09_greeting.ipynb"}  # the step that the recipe adds


@cache
def defined(module: str) -> dict[str, ast.AST]:
    """What a module defines, imports or lists by name; empty if there is no such module."""
    place = PACKAGE.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.is_file():
            return names(ast.parse(file.read_text(encoding="utf-8")))
    return {}


def names(body: ast.Module | ast.ClassDef) -> dict[str, ast.AST]:
    """The names that a module or a class defines, imports or lists, each with what gives it."""
    found: dict[str, ast.AST] = {}
    for node in body.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.id: node for t in targets if isinstance(t, ast.Name)}
            if "__all__" in found and found["__all__"] is node:  # some are imported when asked for
                found |= dict.fromkeys(ast.literal_eval(node.value), node)
    return found


def is_symbol(name: str) -> bool:
    """Whether it is a module of the package, or what one defines: ``task.KINDS``."""
    module, _, last = name.rpartition(".")
    return bool(defined(name)) or last in defined(module)


def is_file(name: str) -> bool:
    """Whether it is a file or a folder of the project, or of what a step makes; or a test."""
    name, _, test = name.partition("::")
    if test:
        return f"def {test}(" in (ROOT / name).read_text(encoding="utf-8")
    return name in FILES | FOLDERS or (ROOT / name).exists()


def is_command(name: str) -> bool:
    """Whether it is a target of make, or a command of truefit."""
    program, _, rest = name.partition(" ")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    cli = (PACKAGE / "cli.py").read_text(encoding="utf-8")
    in_make = re.search(rf"^{re.escape(rest)}:", makefile, re.MULTILINE)
    return bool((program == "make" and in_make) or (program == "truefit" and f'"{rest}"' in cli))


def is_key(name: str) -> bool:
    """Whether it is one of the outermost keys of params.yaml."""
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(name.rstrip(':'))}:", params, re.MULTILINE) is not None


def is_method(name: str) -> bool:
    """Whether each kind of task has such a method, or modules have such a name."""
    return name in names(defined("case")["Case"]) or any(PACKAGE.rglob(f"{name}.py"))


def test_the_drawing_has_the_layers_of_the_code():
    assert [sorted(line) for line in DRAWN] == [sorted(line.split()) for line in LAYERS]


def test_the_arrows_join_each_layer_to_the_one_below():
    arrows = re.findall(r"l(\d+) (?=--> l(\d+))", ARCHITECTURE)
    assert arrows == [(str(i), str(i + 1)) for i in range(len(LAYERS) - 1)]


def test_each_room_that_is_drawn_has_a_paragraph_in_the_order_of_the_drawing():
    told = re.findall(r"(?m)^\*\*`(\w+)`\*\* ", ARCHITECTURE)
    assert told == [name for line in DRAWN for name in line if "." not in name]


def exists(name: str) -> bool:
    return any(kind(name) for kind in (is_symbol, is_file, is_command, is_key, is_method))


def test_what_the_page_names_exists():
    assert [name for name in NAMED if not exists(name) and name not in EXAMPLE] == []


@pytest.mark.parametrize(
    "name", ["task.KIND", "tests/test_tasks.py", "make tidyup", "truefit sing", "caases:", "taks"]
)
def test_a_name_of_nothing_is_seen(name):
    assert not exists(name)


def test_the_readme_and_contributing_lead_to_the_pages():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert "(docs/architecture.md" in text and "(docs/glossary.md" in text


def test_the_glossary_has_each_term_once_in_order_and_says_what_it_means():
    _, _, *entries = GLOSSARY.rstrip().split("\n\n")
    told = [re.fullmatch(r"(?s)\*\*(.+?)\*\*: [A-Z].+\.", entry) for entry in entries]
    assert [entry for entry, one in zip(entries, told, strict=True) if not one] == []
    words = [one[1].lower() for one in told if one]
    assert words == sorted({*words}, key=lambda word: word.replace("-", " "))


def test_each_term_of_the_glossary_is_used():
    pages = (*ROOT.glob("*.md"), *ROOT.glob("notebooks/*.ipynb"), ROOT / "docs/architecture.md")
    used = " ".join(" ".join(page.read_text(encoding="utf-8").lower().split()) for page in pages)
    terms = re.findall(r"(?m)^\*\*(.+?)\*\*: ", GLOSSARY)
    assert [term for term in terms if term.lower() not in used] == []


def test_a_term_that_refers_to_another_finds_it():
    terms = {*re.findall(r"(?m)^\*\*(.+?)\*\*: ", GLOSSARY)}
    assert {*re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", GLOSSARY)} <= terms
