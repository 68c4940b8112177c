"""The rules of the code base that a parser can check."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("common", "kdrl", "kdseg")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TERMS = sorted(path for path in (ROOT / "common" / "terms").glob("*.py") if path.stem not in ("__init__", "base"))

FORBIDDEN = {"common": {"kdrl", "kdseg", "tests"}, "kdrl": {"kdseg", "tests"}, "kdseg": {"kdrl", "tests"}}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import, those inside functions and strings of ``import_module`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or package).split(".")[0] if node.level == 0 else package
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value.split(".")[0]


def _violations(source: str, package: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in _imported(ast.parse(source), package) if name in FORBIDDEN[package]]


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules(source: str, known: set[str]) -> set[str]:
    """The known modules that a source imports, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return found & known


def _undocumented(source: str) -> list[str]:
    tree = ast.parse(source)
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    missing = [f"{node.lineno} {node.name}" for node in public if not ast.get_docstring(node)]
    return missing if ast.get_docstring(tree) or not tree.body else ["1 the module", *missing]


def test_there_is_something_to_check() -> None:
    assert {path.parts[len(ROOT.parts)] for path in SOURCES} == set(PACKAGES)
    assert len(TERMS) >= 3


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("common", "import kdrl.ppo"),
        ("common", "def f():\n    from kdseg import module"),
        ("kdrl", "if True:\n    import kdseg as x"),
        ("kdseg", "importlib.import_module('kdrl.env')"),
    ],
)
def test_a_forbidden_import_is_seen(package: str, source: str) -> None:
    assert _violations(source, package)
    assert not _violations("import torch\nfrom common import losses\nfrom . import kdrl_like", package)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_imports_point_one_way(path: Path) -> None:
    found = _violations(path.read_text(), path.relative_to(ROOT).parts[0])
    assert not found, f"{_name(path)} imports {found}; kdrl and kdseg may import common, nothing else among the three"


def test_modules_do_not_import_each_other_in_circles() -> None:
    known = {_module(path): path for path in SOURCES}
    graph = {name: _modules(path.read_text(), set(known)) - {name} for name, path in known.items()}
    assert "common.errors" in graph["common.runs.folder"] and "kdrl.configured" in graph["kdrl.train"]
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(known)  # raises CycleError
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({**graph, "common.errors": {"kdrl.train"}}).static_order())


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_public_names_have_docstrings(path: Path) -> None:
    missing = _undocumented(path.read_text())
    assert not missing, f"{_name(path)}: no docstring for {', '.join(missing)}"


def test_a_missing_docstring_is_seen() -> None:
    assert _undocumented("def f(): ...") == ["1 the module", "1 f"]
    assert _undocumented('"""Doc."""\nclass A: ...\ndef _private(): ...') == ["2 A"]


def test_files_are_named_for_what_is_in_them() -> None:
    meaningless = {"utils", "util", "misc", "helpers", "helper", "lib"}
    folders = [ROOT / package for package in (*PACKAGES, "configs", "tests", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts]
    assert files
    assert [_name(path) for path in files if path.stem in meaningless] == []


@pytest.mark.parametrize("path", TERMS, ids=_name)
def test_every_term_has_its_mirrored_test(path: Path) -> None:
    test = ROOT / "tests" / "common" / "terms" / f"test_{path.name}"
    assert test.exists(), f"{_name(path)} needs {_name(test)}"
