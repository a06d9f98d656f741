"""The Markdown page of `benchmarks.accuracy`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.support.accuracy_curve import drawn_names, entry_of
from benchmarks.support.rate_table import edges, rate_rows
from flax_agnews.errors import listed
from flax_agnews.report.answer import Answer
from flax_agnews.report.sentences import notes, sentences
from flax_agnews.report.tables import interval_text, markdown_table, rank_text, seeds_text
from flax_agnews.system.text import NOT_KNOWN, counted, pipe_table

PYTORCH = {"full": [0.8900, 0.8986], "prompt": [0.8551, 0.8729], "partial": [0.8888, 0.8938]}
"""Plain PyTorch's test accuracies, seeds 0 and 1: transformers' GPT2Model, float32, constant rates."""
PYTORCH_TEXTS = 18_000

Missing = Mapping[int, Mapping[str, int]]
"""Number of training texts -> strategy -> number of its runs that aren't finished."""


def page(sizes: Mapping[int, Answer], about: str, origin: Mapping[str, Any], missing: Missing, resume: str) -> str:
    """The page.

    Args:
        sizes: number of training texts -> the answer of its experiment, also of one that isn't finished.
        about: what was measured, as a paragraph.
        origin: device, precision, savings and sittings, as `benchmarks.accuracy` records them.
        missing: what isn't finished.
        resume: the command that goes on.
    """
    most = max(sizes)
    parts = [
        "# Accuracy from a body that has learned English news",
        about,
        _made(origin),
        f"Savings that were on: {origin['savings']}.",
        *_unfinished(missing, resume),
        *_comparison(sizes[most]),
        *_by_rows(sizes),
        *_rates(sizes),
    ]
    return "\n\n".join(parts) + "\n"


def _made(origin: Mapping[str, Any]) -> str:
    """Where, when and with which commits it was computed."""
    versions = ", ".join(f"{name} {origin[name]}" for name in ("jax", "python", "flax", "optax", "numpy"))
    sittings = [f"{one['date']} (commit {one['commit']})" for one in origin["sittings"]]
    computed = f"Computed on {origin['device']}, {origin['precision']}, {origin['processor']}; {versions}"
    remark = f" {origin['remark']}" if "remark" in origin else ""  # written into sittings.json by hand
    return f"{computed}. {counted(len(sittings), 'sitting')}: {listed(sittings, len(sittings))}.{remark}"


def _unfinished(missing: Missing, resume: str) -> Iterator[str]:
    """What isn't finished, and the command that goes on; nothing where all is."""
    if not missing:
        return
    yield "**Not finished**, and left out of what follows:"
    yield "\n".join(f"- on {rows:,} training texts {_left(left)}" for rows, left in missing.items())
    yield f"`{resume}` goes on where it stopped."


def _left(left: Mapping[str, int]) -> str:
    """Numbers of runs with their strategies: `5 runs of full and lora, 2 runs of head`."""
    by_count: dict[int, list[str]] = {}
    for name, count in left.items():
        by_count.setdefault(count, []).append(name)
    return ", ".join(f"{counted(count, 'run')} of {listed(names, len(names))}" for count, names in by_count.items())


def _comparison(answer: Answer) -> Iterator[str]:
    """The section on the largest number of texts, beside plain PyTorch."""
    yield f"## {answer.results.data.train:,} training texts"
    yield f"{' '.join(sentences(answer))} The whole report: [accuracy.html](accuracy.html)."
    yield markdown_table(answer)
    if said := notes(answer):
        yield "\n".join(f"- {note}" for note in said)
    rows = list(_beside_pytorch(answer)) if answer.results.data.train == PYTORCH_TEXTS else []
    if rows:
        yield "Beside plain PyTorch, which was measured once on as many texts, with two seeds and constant rates:"
        yield pipe_table(
            ("strategy", "here, by seed", "mean", "plain PyTorch, by seed", "its mean", "difference"), rows
        )
        yield (
            "The standard error of one accuracy on 7,600 texts is 0.35 points; constant rates make PyTorch's seeds "
            "differ by one to two. PyTorch trained on the first 18,000 rows and tested its last weights; here as many "
            "rows, drawn from the first 20,000, train, and the epoch that is best on the other 2,000 is tested."
        )


def _beside_pytorch(answer: Answer) -> Iterator[tuple[str, ...]]:
    for name, theirs in PYTORCH.items():
        if entry := entry_of(answer, name):
            ours, mean = [f"{run.test_accuracy:.4f}" for run in entry.runs], sum(theirs) / len(theirs)
            by_seed = ", ".join(f"{one:.4f}" for one in theirs)
            difference = f"{100 * (entry.mean - mean):+.1f} points"
            yield name, ", ".join(ours), f"{entry.mean:.4f}", by_seed, f"{mean:.4f}", difference


def _by_rows(sizes: Mapping[int, Answer]) -> Iterator[str]:
    """The section on accuracy against the number of training texts."""
    yield "## Accuracy by number of training texts"
    yield "![Test accuracy against the number of training texts, a line for every strategy](accuracy.png)"
    columns = [f"{rows:,} texts" for rows in sorted(sizes)]
    rows = [(name, *(_cell(answer, name) for _, answer in sorted(sizes.items()))) for name in drawn_names(sizes)]
    yield "Test accuracy, its 95 % interval for other seeds and other test texts, and the rank among all in its report:"
    yield pipe_table(("", *columns), rows)
    fewer = sorted(sizes.items())[:-1]  # the section above has that of most texts
    if fewer:
        yield "\n".join(f"- {rows:,} texts: {' '.join(sentences(answer))}" for rows, answer in fewer)
    header = ("training texts", "for validation", "epochs", "updates", "seeds")
    yield pipe_table(header, [_plan(answer) for _, answer in sorted(sizes.items())], left=0)


def _cell(answer: Answer, name: str) -> str:
    entry = entry_of(answer, name)
    if entry is None:
        return NOT_KNOWN
    return f"{entry.mean:.3f} ({interval_text(entry.accuracy)}), {rank_text(answer, entry)}"


def _plan(answer: Answer) -> Sequence[str]:
    """How an experiment trained: texts, epochs, updates, seeds."""
    data, epochs = answer.results.data, answer.results.settings["epochs"]
    updates = epochs * -(-data.train // answer.results.settings["batch_size"])
    seeds = seeds_text(answer.results).removesuffix("s").removesuffix(" seed")
    return f"{data.train:,}", f"{data.validation:,}", str(epochs), f"{updates:,}", seeds


def _rates(sizes: Mapping[int, Answer]) -> Iterator[str]:
    """The section on how the rates were chosen."""
    found = [(f"{rows:,}", *row) for rows, answer in sorted(sizes.items()) for row in rate_rows(answer)]
    if not found:
        return
    at_edge = edges({f"{rows:,} texts": answer for rows, answer in sorted(sizes.items())})
    yield "## Learning rates"
    yield (
        "Chosen for each number of texts on its validation texts, by trials of the same updates for every strategy: "
        "the middle of what was tried is the rate that plain PyTorch was measured with (of `lora` and `head`, which it "
        f"wasn't, one that a search on 4,500 texts chose). {at_edge}"
    )
    header = ("training texts", "strategy", "rates", "of the middle", "accuracy at the middle, at best, first round")
    yield pipe_table(header, found, left=3)
