"""The tests mirror the package: a module's tests are found by its name, and tests share helpers through `support`."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "flax_agnews"

ABOUT_SEVERAL_MODULES = {"contracts", "end_to_end", "faults", "benchmarks", "support"}
"""Folders of tests that mirror no folder of the package."""

ABOUT_THE_TREE = {"test_floors", "test_mirror"}

TESTED_ELSEWHERE = {
    "cli/describe": "test_commands.py: a thin command",
    "experiment/prepared": "end_to_end/test_resume.py: identities of runs, and their checkpoints",
    "experiment/dry_run_text": "experiment/test_dry_run.py: the lines that the command prints",
    "experiment/start": "experiment/test_library.py: what is read and checked at an experiment's first use",
    "experiment/training": "experiment/test_experiment.py: the files of finished runs",
    "experiment/work": "experiment/test_dry_run.py: seconds of strategies, measured and of the table",
    "metrics/trackers": "metrics/test_wandb_files.py: one run with two trackers",
    "models/bottleneck": "contracts/test_added_parameters.py: adapters against a straightforward version",
    "models/forward_pass": "contracts/test_every_strategy.py: values that every layer is called with",
    "models/lora": "contracts/test_peft_parity.py: against PEFT",
    "models/parts": "training/test_sharding.py: gathered by layers, forward and backward",
    "models/prompts": "contracts/test_added_parameters.py: first values of prompts and prefixes",
    "models/scaled": "contracts/test_peft_parity.py: against PEFT",
    "models/token_layout": "models/test_attention.py: which tokens attend to which",
    "runs/references": "experiment/test_data_files.py: written, read, damaged and cached there",
    "runs/identity": "experiment/test_continuation.py: hashes that must match",
    "runs/run_folder": "runs/test_output_folder.py: the folders in an output folder",
    "strategies/plan": "strategies/test_optim.py: schedules by closed forms, AdamW against PyTorch's",
    "strategies/paths": "strategies/test_base.py: patterns over paths",
    "trained/export_formats": "trained/exports/test_exports.py: the names are those of the formats",
    "trained/run_source": "trained/test_loading.py and runs/test_recorded_paths.py: every part is checked there",
    "trained/saved_run": "experiment/test_library.py: saved and loaded again",
    "training/adapted_model": "strategies/test_strategies.py and training/test_start_values.py: first values",
    "training/batch_plans": "training/test_shape_prices.py: shapes of training and evaluation by the settings",
    "training/lane": "training/test_group.py: a run among those that train together",
    "training/observer": "experiment/test_progress.py: methods without a body, shown there",
    "training/state": "contracts/test_every_strategy.py: states of every strategy",
    "training/updates": "training/test_pretrain.py and training/test_group.py: the loop of both, stopped and resumed",
    "training/vote": "training/test_processes.py: real signals to one of two processes",
    "cli/common": "end_to_end/test_before_loading.py: it is what predict, evaluate and export have in common",
    "cli/compare": "experiment/test_compared_strategies.py: it runs an experiment and writes its report",
    "config/__init__": "cli/test_arguments.py: dataclasses, which flags and files fill",
    "config/inputs": "cli/test_arguments.py: dataclasses, which flags and files fill",
    "config/outputs": "cli/test_arguments.py: dataclasses, which flags and files fill",
    "config/training": "cli/test_arguments.py: dataclasses, which flags and files fill",
    "data/builtin_words": "data/test_builtin.py: phrases, seen in the corpus that is made of them",
    "experiment/outputs": "experiment/test_experiment.py: what a run leaves in its folder",
    "experiment/preparation": "runs/test_recorded_paths.py and training/test_pretrain.py: a kept tokenizer and body",
    "experiment/ray_parts": "experiment/test_ray_engine.py: dataclasses of what is sent there",
    "experiment/ray_task": "experiment/test_ray_engine.py: tasks on three nodes",
    "experiment/results": "experiment/test_experiment.py: every field of results.json",
    "export": "end_to_end/test_before_loading.py: a thin command",
    "models/classifier": "contracts/test_every_strategy.py: each strategy's logits against the naive way",
    "models/parameters": "contracts/test_every_strategy.py: splits and merges every model there",
    "report/__init__": "report/test_page.py: the report as a whole",
    "report/html/content": "report/html/test_page.py: dataclasses, which the page shows",
    "runs/merged_file": "report/test_merge.py: written by a merge, read by the next one, and damaged there",
    "settings/ranges": "cli/test_arguments.py: each setting out of its range, as a flag and in a file",
    "strategies/adamw": "strategies/test_optim.py and training/test_rates.py: against PyTorch, and its numbers",
    "strategies/bitfit": "contracts/test_labelling.py: it only labels, and is compared with PyTorch's parameters",
    "strategies/head": "contracts/test_labelling.py: it only labels, and is compared with PyTorch's parameters",
    "strategies/ia3": "contracts/test_added_parameters.py and contracts/test_peft_parity.py: against PEFT",
    "strategies/lora_prompt": "contracts/test_added_parameters.py: it joins two strategies that have their tests",
    "strategies/norms": "contracts/test_labelling.py: it only labels, and is compared with PyTorch's parameters",
    "strategies/peft": "contracts/test_peft_parity.py: PEFT itself reads what is written",
    "system/interrupt": "end_to_end/test_resume.py: real signals to real processes",
    "trained/exports/peft": "contracts/test_peft_parity.py: PEFT itself reads what is written",
    "trained/exports/target": "trained/exports/test_exports.py: a dataclass, of which each format is one",
}
"""A module without a test file of its name -> where it is tested instead, and why."""


def modules() -> dict[str, str]:
    """Modules that hold code, `folder/name` -> the name that their tests begin with after `test_`.

    A folder's own file is tested under the folder's name.
    """
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = file.relative_to(PACKAGE).with_suffix("")
        statements = ast.parse(file.read_text("utf-8")).body
        if any(not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) for node in statements):
            name = (file.parent.name if module.name == "__init__" else module.name).strip("_")
            found[module.as_posix()] = "commands" if module.as_posix() == "__main__" else name  # beside main.py
    return found


MODULES = modules()


def files_of_tests() -> list[Path]:
    """Files of tests that mirror a file of the package."""
    files = [file.relative_to(TESTS) for file in sorted(TESTS.rglob("test_*.py"))]
    return [f for f in files if f.parts[0] not in ABOUT_SEVERAL_MODULES and f.stem not in ABOUT_THE_TREE]


def module_of(file: Path) -> str | None:
    """The module that a file of tests is named after, `test_MODULE.py` or `test_MODULE_ASPECT.py`: the longest."""
    tested = file.stem.removeprefix("test_")
    beside = [name for name in MODULES if Path(name).parent == file.parent]
    named = [name for name in beside if f"{tested}_".startswith(f"{MODULES[name]}_")]
    return max(named, key=lambda name: len(MODULES[name]), default=None)


@pytest.mark.parametrize("file", [pytest.param(file, id=file.as_posix()) for file in files_of_tests()])
def test_a_file_of_tests_is_named_after_a_module(file: Path) -> None:
    assert module_of(file), f"no module in flax_agnews/{file.parent} has the name that {file.name} begins with"


def test_every_module_has_tests_of_its_name_or_a_reason() -> None:
    tested = {module_of(file) for file in files_of_tests()}
    without = set(MODULES) - tested
    assert without - set(TESTED_ELSEWHERE) == set(), "give these a test file of their name, or a row in the table"
    assert set(TESTED_ELSEWHERE) - without == set(), "these have tests of their name, or are gone: delete their rows"
    assert len(tested) > 60


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_a_reason_names_tests_that_are_there(module: str) -> None:
    where, _, why = TESTED_ELSEWHERE[module].partition(": ")
    assert why
    assert all((TESTS / file).is_file() for file in where.split(" and "))


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.relative_to(TESTS).as_posix()) for file in sorted(TESTS.rglob("*.py"))]
)
def test_tests_import_nothing_from_other_tests(file: Path) -> None:
    """What several files of tests need stands in `support`."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    in_tests = {name for name in imported if (TESTS / Path(*name.split(".")[:2])).with_suffix(".py").is_file()}
    parts = [part for name in in_tests for part in name.split(".")]
    assert not [part for part in parts if part.startswith("test_") or part == "conftest"]
