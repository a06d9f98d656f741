"""`python -m benchmarks.accuracy`: accuracy of the strategies, and by how many texts they train on, on real texts.

Fine-tunes a small GPT-2 that was trained as a language model on AG News texts, on 500 to 18,000 of AG News' training
texts, by full, partial and prompt fine-tuning, LoRA and a trained head alone, five seeds each, and tests on all 7,600
official test texts. As many texts as a ninth of the training texts, and at least 250, are held out for validation, on
which rates and epochs are chosen; TF-IDF with logistic regression has the same texts. All make two epochs, and as
many more as give 150 updates of 32 texts. The command resumes: finished trials and runs aren't computed again, and
the pages are written after each number of texts.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.support.accuracy_curve import picture
from benchmarks.support.accuracy_page import Missing, page
from benchmarks.support.circumstances import RESULTS, circumstances
from benchmarks.support.resumable import run_or_exit
from flax_agnews.config import (
    Config,
    DataConfig,
    ModelConfig,
    ReportConfig,
    SearchConfig,
    TrackingConfig,
    TrainConfig,
)
from flax_agnews.data.shapes import MOST
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import read_answer, read_results, write_answer
from flax_agnews.report.answer import Answer
from flax_agnews.strategies import chosen
from flax_agnews.strategies.full import FullSettings
from flax_agnews.strategies.head import HeadSettings
from flax_agnews.strategies.lora import LoraSettings
from flax_agnews.strategies.partial import PartialSettings
from flax_agnews.strategies.prompt import PromptSettings
from flax_agnews.system.files import read_json, write_atomic, write_json

SIZES = (18_000, 2_000, 500, 8_000)
"""Numbers of training texts, in the order in which they are worked on."""

STRATEGIES = ("full", "prompt", "partial", "head", "lora")
LAST = "lora"
"""On the largest number of texts the strategy that runs last, since plain PyTorch has no figure for it."""

OUTPUT = "runs/accuracy"

LONGEST = 236
"""Tokens of a text: the body has 256 positions, of which a prompt takes 20."""

BATCH, FEWEST_EPOCHS, FEWEST_UPDATES, FEWEST_VALIDATION = 32, 2, 150, 250
TRIALS, TRIAL_UPDATES = 5, 300
"""Factors that a strategy tries, 0.1 to 10 around its rate, and the updates that all of its trials make together."""

SECTIONS = {
    "full": FullSettings(learning_rate=5e-4),
    "prompt": PromptSettings(learning_rate=1e-2),
    "partial": PartialSettings(learning_rate=2e-4, top_multiplier=5.0),
    "head": HeadSettings(learning_rate=1e-2),
    "lora": LoraSettings(learning_rate=5e-3),
}
"""Strategy -> its settings, with the rate in the middle of its search."""


def updates_of(rows: int) -> tuple[int, int]:
    """Number of epochs on so many training texts, and of updates in an epoch."""
    each = -(-rows // BATCH)
    return max(FEWEST_EPOCHS, -(-FEWEST_UPDATES // each)), each


def configuration(options: argparse.Namespace, rows: int, strategies: Sequence[str]) -> Config:
    """Settings of the experiment on so many training texts, with every saving of time on."""
    validation = max(FEWEST_VALIDATION, rows // 9)
    epochs, each = updates_of(rows)
    return Config(
        strategy=",".join(strategies),
        output=str(folder_of(options.output, rows)),
        model=ModelConfig(name=options.model),
        data=DataConfig(
            source=options.data,
            max_length=LONGEST,
            limit_train=rows + validation,
            # the number of rows is rounded up: half a row less keeps it exact
            validation_fraction=(validation - 0.5) / (rows + validation),
        ),
        train=TrainConfig(
            epochs=epochs,
            batch_size=BATCH,
            seed=0,
            runs=options.runs,
            schedule="linear",
            warmup_fraction=0.05,
            clip_norm=1.0,
            cache_frozen="on",
        ),
        search=SearchConfig(trials=TRIALS, budget=round(TRIAL_UPDATES / (epochs * each), 3)),
        tracking=TrackingConfig(wandb="disabled"),
        report=ReportConfig(texts="none"),  # the page is published, and the texts aren't ours
        strategies={name: SECTIONS[name] for name in strategies if name in SECTIONS},
    )


def folder_of(output: Path, rows: int) -> Path:
    """The output folder of the experiment on so many training texts."""
    return output / f"rows-{rows}"


def stages(sizes: Sequence[int], strategies: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Number of training texts and strategies of each part of a sitting, what tells most first."""
    early, largest = [name for name in strategies if name != LAST], max(SIZES)
    for rows in sizes:
        if names := early if rows == largest else list(strategies):
            yield rows, names
    if largest in sizes and LAST in strategies:
        yield largest, list(strategies)


def savings(config: Config) -> str:
    """The savings that are on, as a list in words."""
    train, parallel = config.train, config.parallel
    parts = [
        "texts packed without padding",
        f"at most {MOST if train.shapes == 'auto' else train.shapes} compiled shapes",
        "a prompt computed once a batch",
        "the last layer for one token a text",
        f"frozen layers computed once ({train.cache_frozen}, {train.cache_dtype}, kept as {train.cache_place})",
        "weights updated in place",
    ]
    parts += ["compiled programs kept"] if parallel.keep_compilations else []
    parts += ["freed memory kept"] if parallel.keep_memory else []
    parts += ["states saved on the way"] if config.checkpoint.enabled else []
    return ", ".join(parts)


def measured_on() -> dict[str, str]:
    """Names the device and the precision of matrix products; on a GPU, sets float32 products to full precision."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return {"device": "the CPU", "precision": "float32"}
    jax.config.update("jax_default_matmul_precision", "highest")
    return {"device": device.device_kind, "precision": "float32 (matrix products in float32 too, not in TF32)"}


def record_sitting(output: Path, made: Mapping[str, Any]) -> None:
    """Adds date and commit of what is computed now to the folder's record of sittings, once for each day.

    Exits with an error where the folder has runs of another device or JAX: their numbers differ by more than rounding,
    while another commit's runs go on only where strategies, updates, data and weights are the same.
    """
    path = output / "sittings.json"
    before = read_json(path) or {**made, "sittings": []}
    if other := [
        f"{name} {before[name]}, now {made[name]}" for name in ("device", "jax") if before[name] != made[name]
    ]:
        raise SystemExit(f"{output}: has runs of {'; '.join(other)}. Choose another --output, or remove it")
    now = {name: made[name] for name in ("date", "commit")}
    sittings = [*before["sittings"], *([] if now in before["sittings"] else [now])]
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, {**before, "sittings": sittings})


def left_of(output: Path, rows: int, strategies: Sequence[str], runs: int) -> dict[str, int]:
    """Strategy -> number of its runs on so many training texts that aren't finished; those with none are left out."""
    folder = folder_of(output, rows)
    done = read_results(folder).by_strategy if (folder / "results.json").exists() else {}
    left = {name: runs - len(done.get(name, ())) for name in strategies}
    return {name: count for name, count in left.items() if count > 0}


def begun(output: Path) -> dict[int, Path]:
    """Number of training texts -> the output folder of its experiment, where it has a finished run."""
    folders = [path.parent for path in output.glob("rows-*/results.json") if path.parent.name[5:].isdecimal()]
    found = {int(folder.name[5:]): folder for folder in folders}
    return {rows: folder for rows, folder in sorted(found.items()) if read_results(folder).runs}


def write_pages(options: argparse.Namespace) -> None:
    """Writes the pages of results from all that is finished; exits with an error where nothing is."""
    folders, origin = begun(options.output), read_json(options.output / "sittings.json")
    if not folders or origin is None:
        raise SystemExit(f"{options.output}: has no finished run")
    answers: dict[int, Answer] = {}
    for rows, folder in folders.items():
        answers[rows] = read_answer(folder, read_results(folder))
        write_answer(answers[rows], folder)
    every = {rows: left_of(options.output, rows, STRATEGIES, options.runs) for rows in sorted({*SIZES, *folders})}
    missing: Missing = {rows: left for rows, left in every.items() if left}
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    where = [] if options.output == Path(OUTPUT) else [f"--output {options.output}"]
    resume = " ".join(["python -m benchmarks.accuracy --rows", ",".join(map(str, missing)), *where])
    content = {"made": origin, "sizes": {str(rows): answer.results.json for rows, answer in answers.items()}}
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / "accuracy"
    write_atomic(file.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
    write_atomic(file.with_suffix(".md"), page(answers, about, origin, missing, resume).encode())
    write_atomic(file.with_suffix(".png"), picture(answers))
    write_atomic(file.with_suffix(".html"), (folders[max(folders)] / "report.html").read_bytes())


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--model", default="../shared/mini_gpt2")
    made.add_argument("--data", default="../shared/ag_news_large")
    made.add_argument(
        "--output", type=Path, default=OUTPUT, help="finished trials and runs in it aren't computed again"
    )
    made.add_argument(
        "--rows",
        type=lambda text: [int(number) for number in text.split(",")],
        default=list(SIZES),
        help="numbers of training texts of this sitting, in this order; by default all",
    )
    made.add_argument(
        "--strategies", type=lambda text: text.split(","), default=list(STRATEGIES), help="of this sitting"
    )
    made.add_argument("--runs", type=int, default=5, help="seeds of each")
    made.add_argument("--pages", action="store_true", help="only write the pages, from what is finished")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs (or resumes) the experiments, and writes `accuracy.{json,md,png,html}` after each."""
    options = parser().parse_args(arguments)
    parts = [] if options.pages else stages(options.rows, options.strategies)
    todo = [part for part in parts if left_of(options.output, *part, options.runs)]
    if not todo:
        return write_pages(options)
    made = {**circumstances(), **measured_on()}
    for rows, strategies in todo:
        config = configuration(options, rows, strategies)
        record_sitting(options.output, {**made, "savings": savings(config)})
        run_or_exit(Experiment(config, chosen(config.strategy)))
        write_pages(options)


if __name__ == "__main__":
    main()
