"""`python -m benchmarks.accuracy`: accuracy of the strategies, from a body that was trained on English news.

Fine-tunes a small GPT-2 that was trained as a language model on AG News texts, on 18,000 real AG News texts (and 2,000
for validation), by full fine-tuning, prompt tuning, partial fine-tuning and, for comparison, a trained head alone; two
epochs, batch 32, all 7,600 official test texts. Rates are those that plain PyTorch was measured with; they decay here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax

from benchmarks.support.circumstances import RESULTS, circumstances
from flax_agnews.config import Config, DataConfig, ModelConfig, TrackingConfig, TrainConfig
from flax_agnews.data.shapes import MOST
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import write_report
from flax_agnews.runs.references import read_references
from flax_agnews.runs.results import Results
from flax_agnews.strategies import chosen
from flax_agnews.strategies.full import FullSettings
from flax_agnews.strategies.partial import PartialSettings
from flax_agnews.strategies.prompt import PromptSettings
from flax_agnews.system.files import read_json, write_atomic, write_json

ROWS = 20_000
STRATEGIES = "full,prompt,partial,head"

# Plain PyTorch's test accuracies, seeds 0 and 1: transformers' GPT2Model, float32, constant rates.
PYTORCH = {"full": [0.8900, 0.8986], "prompt": [0.8551, 0.8729], "partial": [0.8888, 0.8938]}
VERSIONS = ("python", "jax", "flax", "optax", "numpy")


def configuration(
    model: str, data: str, output: str, runs: int, strategies: str = STRATEGIES, rows: int = ROWS
) -> Config:
    """Settings of the comparison, with every saving of time on; settings that aren't named have their defaults."""
    rates = {
        "full": FullSettings(learning_rate=5e-4),
        "prompt": PromptSettings(learning_rate=1e-2),
        "partial": PartialSettings(learning_rate=2e-4, top_multiplier=5.0),
    }
    return Config(
        strategy=strategies,
        output=output,
        model=ModelConfig(name=model),
        data=DataConfig(source=data, max_length=236, limit_train=rows),
        train=TrainConfig(
            epochs=2,
            batch_size=32,
            seed=0,
            runs=runs,
            schedule="linear",
            warmup_fraction=0.05,
            clip_norm=1.0,
            cache_frozen="on",
        ),
        tracking=TrackingConfig(wandb="disabled"),
        strategies={name: rates[name] for name in strategies.split(",") if name in rates},
    )


def savings(config: Config) -> str:
    """A sentence that lists the savings that are on."""
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
    return f"Savings that were on: {', '.join(parts)}."


def table(results: Results, made: dict[str, Any]) -> str:
    """The page of results in Markdown: measured accuracies beside those of plain PyTorch and of TF-IDF."""
    lines = [
        "# Accuracy from a body that has learned English news",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"{made['date']}, commit {made['commit']}, {made['processor']}; computed on {made['device']}, "
        f"{made['precision']}. " + ", ".join(f"{name} {made[name]}" for name in VERSIONS) + ".",
        "",
        made["savings"],
        "",
        "| strategy | test accuracy by seed | mean | plain PyTorch by seed | its mean |",
        "|---|---|---|---|---|",
    ]
    summaries, order = results.summary, STRATEGIES.split(",")
    for name in [*(name for name in order if name in summaries), *(name for name in summaries if name not in order)]:
        ours = [run.test_accuracy for run in results.runs if run.strategy == name]
        theirs = PYTORCH.get(name, [])
        lines.append(
            f"| {name} | {', '.join(f'{a:.4f}' for a in ours)} | {summaries[name].test_accuracy.mean:.4f} "
            f"| {', '.join(f'{a:.4f}' for a in theirs) or '-'} "
            f"| {f'{sum(theirs) / len(theirs):.4f}' if theirs else '-'} |"
        )
    lines += [
        f"| TF-IDF (1, 2-grams) + logistic regression | | {made['tfidf']:.4f} | | |",
        "",
        "The standard error of one accuracy on 7,600 texts is 0.35 points; constant rates make PyTorch's seeds",
        "differ by one to two. PyTorch trained on the first 18,000 rows and tested its last weights; here as many",
        "rows, drawn from the first 20,000, train, and the epoch that is best on the other 2,000 is tested.",
        "",
    ]
    return "\n".join(lines)


def measured_on() -> dict[str, str]:
    """Names the device and the precision of matrix products; on a GPU, sets float32 products to full precision."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return {"device": "the CPU", "precision": "float32"}
    jax.config.update("jax_default_matmul_precision", "highest")
    return {"device": device.device_kind, "precision": "float32 (matrix products in float32 too, not in TF32)"}


def one_origin(output: Path, made: dict[str, Any]) -> None:
    """Exits with an error where a folder has runs of another commit, device or JAX; else records these there."""
    path, names = output / "made.json", ("commit", "device", "jax")
    before = read_json(path) or made
    if other := [f"{name} {before[name]}, now {made[name]}" for name in names if before[name] != made[name]]:
        raise SystemExit(f"{output}: has runs of {'; '.join(other)}. Choose another --output, or remove it")
    write_json(path, made)


def main() -> None:
    """Runs (or resumes) the comparison, and writes `accuracy.{json,md,png}`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="../shared/mini_gpt2")
    parser.add_argument("--data", default="../shared/ag_news_large")
    parser.add_argument("--output", default="runs/accuracy", help="finished runs in it aren't run again")
    parser.add_argument("--strategies", default=STRATEGIES, help="of this sitting; results are of all in --output")
    parser.add_argument("--runs", type=int, default=2, help="seeds of each")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the training file; fewer are a try of the script")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    options = parser.parse_args()
    config = configuration(options.model, options.data, options.output, options.runs, options.strategies, options.rows)
    made = {**circumstances(), **measured_on(), "savings": savings(config)}
    output = Path(options.output)
    one_origin(output, made)
    results = Experiment(config, chosen(config.strategy)).run()
    write_report(output)
    reference = read_references(output)["tfidf"].predictions.splits["test"]
    made["tfidf"] = float((reference.answers == reference.labels).mean())
    content = json.dumps({"made": made, **results.json}, indent=1) + "\n"
    write_atomic(options.results / "accuracy.json", content.encode())
    write_atomic(options.results / "accuracy.md", table(results, made).encode())
    write_atomic(options.results / "accuracy.png", (output / "accuracy_curves.png").read_bytes())


if __name__ == "__main__":
    main()
