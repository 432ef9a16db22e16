"""What a module or a notebook executes of this package: all that it imports, however deep.

It is read off the sources, so nothing has to be imported or run to know it. The findings of
searches are kept under a digest of it, and `dvc.yaml` lists it for each stage.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from re import match

PACKAGE = Path(__file__).parent


def closure(*sources: Path) -> list[Path]:
    """All files of this package that executing some sources can execute or read, in order.

    A package on the way to a module counts with its ``__init__.py``; so does an import inside a
    function, because the function may be called. Where an ``__init__.py`` imports its modules only
    when a name is asked for (PEP 562), all of them count for whoever imports the package from
    outside. A file that is no code counts where an executed module names it, or its folder.

    Parameters
    ----------
    *sources : Path
        Modules of this package, or notebooks anywhere; the notebooks are not among the files.
    """
    found, pending = set(), list(sources)
    while pending:
        source = pending.pop()
        if source not in found:
            found.add(source)
            pending += _imported(source)
    modules = {f for f in found if f.suffix == ".py"}
    return sorted(modules.union(*(_data(m) for m in modules)))


def digest(*sources: Path) -> str:
    """A checksum of all that `closure` finds, of what it does rather than of how it is written.

    Comments, docstrings and layout do not count.
    """
    total = hashlib.sha256()
    for file in closure(*sources):
        is_code = file.suffix == ".py"
        content = ast.dump(_tree(file)).encode() if is_code else file.read_bytes()
        total.update(f"{file.relative_to(PACKAGE)} {len(content)}\n".encode() + content)
    return total.hexdigest()


def libraries(*sources: Path) -> dict[str, str]:
    """The version of each distribution that the code of `closure` imports, and of all they need."""
    modules = [f for f in closure(*sources) if f.suffix == ".py"]
    imported = {name.partition(".")[0] for m in modules for name, _ in _statements(m)}
    distributions = metadata.packages_distributions()
    pending = [d for name in imported - {PACKAGE.name} for d in distributions.get(name, ())]
    found = {}
    while pending:
        with suppress(metadata.PackageNotFoundError):  # one that only other systems need
            distribution = metadata.distribution(pending.pop())
            if distribution.name not in found:
                found[distribution.name] = distribution.version
                needed = (r for r in distribution.requires or () if "extra ==" not in r)
                pending += [match(r"[\w.-]+", r)[0] for r in needed]
    return dict(sorted(found.items()))


def named(source: Path) -> Iterator[Path]:
    """The modules of this package that a source's own imports name, wherever they stand."""
    for name, attribute in _statements(source):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            inner = [*parts, attribute] if attribute else parts
            files = [file for n in range(len(inner)) if (file := _file(inner[: n + 1]))]
            yield files[-1]


def _imported(source: Path) -> Iterator[Path]:
    """The files of this package that a source's own statements execute."""
    for asked in named(source):
        packages = (folder / "__init__.py" for folder in asked.parents)
        yield from (init for init in packages if init.is_relative_to(PACKAGE))
        yield asked
        if _is_lazy(asked) and asked.parent not in source.parents:
            yield from asked.parent.rglob("*.py")


def _file(parts: list[str]) -> Path | None:
    """The file of a module by the parts of its name, or None if there is none."""
    path = PACKAGE.joinpath(*parts[1:])
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)


@cache
def _tree(source: Path) -> ast.Module:
    """The code of a module or a notebook, without the texts that only document it."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".ipynb":
        cells = (c for c in json.loads(text)["cells"] if c["cell_type"] == "code")
        text = "\n".join("".join(c["source"]) for c in cells)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def _nodes(source: Path) -> list[ast.AST]:
    """All nodes of a source but those that only a type checker reads."""
    found, pending = [], [_tree(source)]
    while pending:
        node = pending.pop()
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            found.append(node)
            pending += ast.iter_child_nodes(node)
    return found


def _statements(source: Path) -> Iterator[tuple[str, str | None]]:
    """Each import of a source: the module, and the name that is taken from it if one is."""
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def _is_lazy(init: Path) -> bool:
    return init.name == "__init__.py" and any(
        getattr(node, "name", getattr(node, "id", "")) == "__getattr__" for node in _nodes(init)
    )


def _data(module: Path) -> Iterator[Path]:
    """The files without code that a module names, from its own folder or one above it."""
    texts = {n.value for n in _nodes(module) if isinstance(n, ast.Constant)}
    for folder in module.parents:
        for entry in folder.iterdir() if folder.is_relative_to(PACKAGE) else ():
            if entry.name in texts and entry.suffix != ".py" and not any(entry.glob("*.py")):
                yield from (f for f in (entry, *entry.rglob("*")) if f.is_file())
