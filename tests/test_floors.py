"""The package's structure: who may import whom, who alone knows what, and how long files and functions may be."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from flax_agnews.strategies import REGISTRY

PACKAGE = Path(__file__).resolve().parents[1] / "flax_agnews"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors", "config"},
    {"system"},
    {"settings", "metrics", "statistics"},
    {"data"},
    {"runs"},
    {"models"},
    {"strategies"},
    {"training"},
    {"trained", "report"},
    {"experiment"},
    {"cli"},
    {"main", "predict", "evaluate", "export", "cache"},
    {"__main__"},
]
"""A folder, or a file beside the folders, imports from lower floors; within a floor, without a cycle."""

LONGEST_FILE, LONGEST_FUNCTION = 300, 60  # lines


def name_of(file):
    """`flax_agnews/data/tokens.py` -> `data.tokens`; a folder's own file is the folder's name, the face is empty."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}
HOUSE = {name: file for name, file in MODULES.items() if name}  # without the public face, which imports lazily


@cache
def tree(file):
    return ast.parse(file.read_text("utf-8"))


def imported(file):
    """Full names of all modules that a file imports, inside functions too; `from a import b` is a and a.b."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_here(file):
    """The modules of the package that a file imports, without `flax_agnews.`."""
    inside = (name.removeprefix("flax_agnews.") for name in imported(file) if name.startswith("flax_agnews."))
    return {name for name in inside if name in HOUSE} - {name_of(file)}


def top(name):
    return name.split(".")[0]


def floor(name):
    (found,) = [number for number, tops in enumerate(FLOORS) if top(name) in tops]
    return found


def places(files):
    """Test parameters of files, named by their place."""
    return [pytest.param(file, id=str(file.relative_to(PACKAGE))) for file in files]


def test_every_file_has_one_floor():
    tops = {top(name) for name in HOUSE}
    unplaced = {name for name in tops if sum(name in floor for floor in FLOORS) != 1}
    assert not unplaced, f"give {unplaced} a place in FLOORS"
    assert len(FILES) > 30


@pytest.mark.parametrize("file", places(HOUSE.values()))
def test_a_file_imports_from_lower_floors_or_its_own(file):
    upwards = {name for name in imported_here(file) if floor(name) > floor(name_of(file))}
    assert not upwards


def without_cycle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_files_import_each_other_without_a_cycle():
    graph = {name: imported_here(file) for name, file in HOUSE.items()}
    # `from folder import file` runs the folder's own file too, but asks nothing of it while that is under way.
    for name, file in HOUSE.items():
        if file.name == "__init__.py":
            for other in graph:
                if other.startswith(name + "."):
                    graph[other].discard(name)
    without_cycle(graph)


def test_folders_and_single_files_import_each_other_without_a_cycle():
    graph: dict[str, set[str]] = {}
    for name, file in HOUSE.items():
        graph.setdefault(top(name), set()).update({top(other) for other in imported_here(file)} - {top(name)})
    without_cycle(graph)


def test_floors_are_not_empty_promises():
    """The reader of imports sees what is known to be there."""
    assert {"strategies.optim", "models.classifier", "errors"} <= imported_here(
        PACKAGE / "training" / "adapted_model.py"
    )
    assert "jax" in set(imported(PACKAGE / "models" / "gpt2.py"))


# Who alone knows what


@pytest.mark.parametrize("file", places(FILES))
def test_only_checkpoints_know_orbax(file):
    if file.relative_to(PACKAGE) not in (Path("training/checkpoint.py"), Path("training/private_apis.py")):
        assert not [name for name in imported(file) if top(name) == "orbax"]


@pytest.mark.parametrize("file", places(FILES))
def test_one_file_knows_private_names_of_jax_and_orbax(file):
    """Modules that are imported, by name or as a string, and attributes of modules."""
    if file.relative_to(PACKAGE) == Path("training/private_apis.py"):
        return
    theirs = {"jax", "flax", "optax", "orbax"}
    hidden = [name for name in imported(file) if any(part.startswith("_") for part in name.split("."))]
    assert not [name for name in hidden if top(name) in theirs]
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "._src" not in node.value, f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            assert not (isinstance(owner, ast.Name) and owner.id in theirs), f"line {node.lineno}: {node.attr}"


@pytest.mark.parametrize("file", places(PACKAGE.glob("report/**/*.py")))
def test_reports_read_files_only(file):
    assert not {top(name) for name in imported(file)} & {"jax", "flax", "optax", "orbax"}
    assert not {top(name) for name in imported_here(file)} & {"models", "strategies", "training", "trained"}


@pytest.mark.parametrize("folder", ["training", "strategies", "models", "data"])
def test_training_never_calls_the_report(folder):
    for file in PACKAGE.glob(f"{folder}/*.py"):
        assert not [name for name in imported_here(file) if top(name) == "report"], file


@pytest.mark.parametrize("what", ["flax_agnews", "flax_agnews.report"])
def test_a_report_is_read_without_jax(what):
    script = (
        f"import sys, {what}; print(*(m for m in ('jax', 'flax', 'optax', 'flax_agnews.training') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "file",
    places(f for f in FILES if f.parent.name != "strategies" and f.relative_to(PACKAGE) != Path("report/colors.py")),
)
def test_only_strategies_know_strategies_names(file):
    """No comparison with a strategy's name, and no table by names (the pictures' colours excepted)."""
    names = {entry.name for entry in REGISTRY}

    def literals(nodes):
        for node in nodes:
            if isinstance(node, ast.Constant) and node.value in names:
                yield f"{node.value} in line {node.lineno}"
            elif isinstance(node, ast.Tuple | ast.List | ast.Set):
                yield from literals(node.elts)

    found = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Compare):
            found += literals([node.left, *node.comparators])
        elif isinstance(node, ast.MatchValue):
            found += literals([node.value])
        elif isinstance(node, ast.Dict):
            found += literals(key for key in node.keys if key)
        elif isinstance(node, ast.Subscript):
            found += literals([node.slice])
    assert not found


SCRIPTS = [file for folder in ("benchmarks", "examples") for file in sorted((PACKAGE.parent / folder).rglob("*.py"))]
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}  # public in spite of their names


def private(name):
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("file", [pytest.param(f, id=str(f.relative_to(PACKAGE.parent))) for f in SCRIPTS])
def test_scripts_use_public_names_only(file):
    """What benchmarks and examples do, anybody can: they import no private name, and touch none but their own."""
    assert not [
        name for name in imported(file) if name.startswith("flax_agnews") and any(map(private, name.split(".")))
    ]
    attributes = (node for node in ast.walk(tree(file)) if isinstance(node, ast.Attribute) and private(node.attr))
    others = (
        node for node in attributes if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    )
    assert not [f"{ast.unparse(node)} in line {node.lineno}" for node in others if node.attr not in OF_NAMED_TUPLES]


# Length


@pytest.mark.parametrize("file", places(FILES))
def test_files_and_functions_are_short(file):
    lines = len(file.read_text("utf-8").splitlines())
    assert lines < LONGEST_FILE
    functions = [node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= LONGEST_FUNCTION}
    assert not long
