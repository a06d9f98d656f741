"""The page of `benchmarks.vs_pytorch` in Markdown: a table for each suite, the targets, the whole experiment.

A record is the content of the JSON file: `made`, `settings`, and `suites` by name. A suite has `mean_tokens`, `ours`
(facts) and `contenders`: name -> `samples` ([seconds, real tokens, texts] of each repeat) and `mean_tokens` per text
after it was cut.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

Record = Mapping[str, Any]


class Target(NamedTuple):
    """A target ratio of the library's speed to another contender's: `least` is required, `reach` aimed for."""

    suite: str
    against: str
    least: float
    reach: float


TARGETS = (
    Target("full-float32", "pad 256", 6, 10),
    Target("full-float32", "pad 128", 2.0, 2.9),
    Target("full-float32", "dynamic", 2.0, 3.0),
    Target("full-float32", "length-grouped", 1.0, 1.2),
    Target("prompt-float32", "dynamic", 2.3, 3.0),
    Target("prompt-float32", "length-grouped", 1.35, 1.6),
    Target("partial-float32", "length-grouped", 1.35, 1.6),
    Target("full-bfloat16", "length-grouped", 1.0, 1.25),
    Target("partial-bfloat16", "length-grouped", 1.3, 1.5),
    Target("prompt-bfloat16", "length-grouped", 1.1, 1.35),
    Target("partial-float32", "ours, full", 2.0, 2.3),
    Target("partial-bfloat16", "ours, full", 2.0, 2.3),
)

ON_A_GPU: Mapping[int, Sequence[Target]] = {
    128: (Target("full-bfloat16", "length-grouped, torch.compile", 1.2, 1.6),),
    512: (
        Target("partial-bfloat16", "length-grouped", 2.0, 3.0),
        Target("prompt-bfloat16", "length-grouped", 2.2, 3.0),
    ),
}
"""Texts an update -> targets on a GPU."""

LEAST_WHOLE, REACH_WHOLE = 8, 12

# The original experiment (published settings): training texts after the validation split, epochs, runs a strategy
STRATEGIES, TEXTS, EPOCHS, RUNS = ("full", "prompt", "partial"), 108_000, 5, 3

THEIRS = "pad 256"
"""The contender with the original experiment's padding."""


def speeds(contender: Mapping[str, Any]) -> list[float]:
    """A contender's real tokens per second in each repeat."""
    return [tokens / seconds for seconds, tokens, _ in contender["samples"]]


def speed(record: Record, suite: str, name: str) -> float | None:
    """A contender's median of real tokens per second; None where it wasn't measured."""
    contender = record["suites"].get(suite, {"contenders": {}})["contenders"].get(name)
    return median(speeds(contender)) if contender else None


def ratio(record: Record, suite: str, name: str) -> float | None:
    """The library's median speed divided by another contender's; None where one wasn't measured."""
    ours, theirs = speed(record, suite, "ours"), speed(record, suite, name)
    return ours / theirs if ours and theirs else None


def whole_experiment(record: Record) -> dict[str, dict[str, float]] | None:
    """Hours of the original experiment's training, computed from the measured speeds; None where a speed is missing.

    Strategy -> hours of "theirs" and "ours", and the parts of ours: training, compiling once per strategy, and caching
    frozen activations once. Evaluations are left out on both sides.
    """
    hours = {}
    for strategy in STRATEGIES:
        name = f"{strategy}-float32"
        theirs, ours = speed(record, name, THEIRS), speed(record, name, "ours")
        if theirs is None or ours is None:
            return None
        suite = record["suites"][name]
        facts = suite["ours"]["ours"]
        epoch = TEXTS * suite["mean_tokens"]
        parts = {
            "training": RUNS * EPOCHS * epoch / ours,
            "compiling": facts["compile_seconds"],
            "cache": epoch * facts["cache_seconds"] / facts["cached_tokens"],
        }
        seconds = {"theirs": RUNS * EPOCHS * epoch / theirs, "ours": sum(parts.values()), **parts}
        hours[strategy] = {part: value / 3600 for part, value in seconds.items()}
    return hours


def page(record: Record) -> str:
    """The whole page in Markdown."""
    suites = [_suite(record, name) for name in record["suites"]]
    return "\n\n".join([_head(record), *suites, *_left_out(record), _targets(record), _whole(record)]) + "\n"


def model_text(record: Record) -> str:
    """`GPT-2, 12 layers x 768 (124,439,808 parameters)`."""
    model = record["made"]["model"]
    return f"GPT-2, {model['n_layer']} layers x {model['n_embd']} ({model['parameters']:,} parameters)"


def _head(record: Record) -> str:
    made, settings = record["made"], record["settings"]
    kept = "kept in the process" if settings["allocator"] else "given back to the system"
    exact = (
        "float32 is float32 on both sides, without TF32: PyTorch's default, and ours by `--model.precision highest`."
    )
    exact = f"\n- {exact}" if made["backend"] == "gpu" else ""
    versions = ", ".join(f"{name} {made[name]}" for name in ("python", "jax", "flax", "torch", "transformers", "peft"))
    return f"""# Beside PyTorch

{model_text(record)}, real AG News texts of at most {settings["max_length"]} tokens,
{settings["batch_size"]} texts an update. The same weights, texts, batch size and precision for all; dropout 0; complete
training steps (forward, backward, AdamW, loss read back). All contenders of a table ran in one go, one at a time in a
shuffled order, {settings["repeats"]} times after a warm-up (on a GPU with 10 batches each time). Only real tokens
count: no padding, no prompt. Freed memory is {kept}, on both sides.

- pad 256, pad 128: every text padded to that width, as the original experiment does (its code pads to 128 and cuts what
  is longer; of a cut text only what is left counts). In the tables of prompt and partial it has 8 texts an update.
- dynamic: padded to the longest of the batch's random texts.
- length-grouped: batches of like length, as Hugging Face's Trainer groups them within 50 x {settings["batch_size"]}
  random texts.
- PyTorch is `GPT2ForSequenceClassification` of transformers with SDPA and the fused AdamW; bfloat16 is autocast; prompt
  tuning is PEFT's.
- torch.compile: with `dynamic=True`; every width is run before it counts.
- trainer: Hugging Face's Trainer with DataCollatorWithPadding and its defaults otherwise (gradients are clipped), on
  50 batches, the first two of which don't count.
- ours: batches of uniformly random texts, packed (in each repeat two; the first has the texts of pad and dynamic);
  partial with its cache of frozen activations built before.{exact}

{made["date"]}, commit {made["commit"]}, {made["processor"]}, {made["backend"]} ({made["device"]}), PyTorch with
{made["threads"]} threads; load average before: {made["load_before"]:.2f}. {versions}."""


def _suite(record: Record, name: str) -> str:
    suite = record["suites"][name]
    strategy, precision = name.split("-")
    lines = [
        f"## {strategy}, {precision}",
        "",
        "| contender | texts/s | real tokens/s, median [least - most] | ours over it |",
        "|---|---:|---:|---:|",
    ]
    for contender, measured in suite["contenders"].items():
        every = speeds(measured)
        middle, factor = median(every), "" if contender == "ours" else _times(ratio(record, name, contender))
        spread = f"{middle:.1f} [{min(every):.1f} - {max(every):.1f}]"
        lines.append(f"| {contender} | {middle / measured['mean_tokens']:.2f} | {spread} | {factor} |")
    facts = suite["ours"]["ours"]
    cache = f", cache of frozen activations {facts['cache_seconds']:.1f} s" if facts["cache_seconds"] else ""
    lines += [
        "",
        f"Ours: shapes: {facts['shapes']}; {100 * facts['waste']:.1f} % of the computed tokens are padding; compiled "
        f"in {facts['compile_seconds']:.0f} s{cache}. A text has {suite['mean_tokens']:.1f} tokens on average.",
        *(f"\nNot measured: {contender}: {reason}" for contender, reason in suite.get("not_measured", {}).items()),
    ]
    return "\n".join(lines)


def _left_out(record: Record) -> list[str]:
    """A paragraph on suites that were left out; empty where none was."""
    if not (names := record.get("left_out")):
        return []
    return [
        f"Left out: {', '.join(names)}. This processor has no products of bfloat16 (AVX512-BF16 or AMX-BF16 on x86,\n"
        "BF16 on ARM), and is slower in it than in float32; `--suites` measures them all the same."
    ]


def _targets(record: Record) -> str:
    lines = [
        "## Targets",
        "",
        "Ratio of medians, ours over theirs.",
        "",
        "| | against | at least | reach for | measured | |",
        "|---|---|---:|---:|---:|---|",
    ]
    on_a_gpu = ON_A_GPU.get(record["settings"]["batch_size"], ())
    targets = on_a_gpu if record["made"]["backend"] == "gpu" else TARGETS
    for target in targets:
        strategy, precision = target.suite.split("-")
        cells = f"| {precision} {strategy} | {target.against} "
        lines.append(cells + _judged(target.least, target.reach, ratio(record, target.suite, target.against)))
    whole = whole_experiment(record)
    total = _total(whole, "theirs") / _total(whole, "ours") if whole else None
    lines.append(f"| the whole original experiment, computed | {THEIRS} " + _judged(LEAST_WHOLE, REACH_WHOLE, total))
    return "\n".join(lines)


def _whole(record: Record) -> str:
    lines = [
        "## The whole original experiment, computed",
        "",
        f"Not run: {len(STRATEGIES)} strategies x {RUNS} runs x {EPOCHS} epochs over {TEXTS:,} training texts, from",
        f"the float32 speeds above (so at {record['settings']['batch_size']} texts an update); evaluations left out",
        f"on both sides. The original's way is {THEIRS}.",
        "",
    ]
    whole = whole_experiment(record)
    if whole is None:
        return "\n".join([*lines, f"It needs the suites {', '.join(f'{s}-float32' for s in STRATEGIES)}."])
    lines += [
        "| strategy | the original's way, hours | ours, hours | of it compiling | of it the cache | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    rows = [*whole.items(), ("all", {part: _total(whole, part) for part in ("theirs", "ours", "compiling", "cache")})]
    for strategy, hours in rows:
        parts = [f"{hours['theirs']:.2f}", f"{hours['ours']:.2f}", f"{hours['compiling']:.3f}", f"{hours['cache']:.3f}"]
        lines.append(f"| {' | '.join([strategy, *parts, _times(hours['theirs'] / hours['ours'])])} |")
    if any(hours["cache"] for hours in whole.values()):
        mean, width = record["suites"]["partial-float32"]["mean_tokens"], record["made"]["model"]["n_embd"]
        lines += ["", f"The cache of frozen activations would have {TEXTS * mean * width * 4 / 1e9:.1f} GB in float32."]
    return "\n".join(lines)


def _total(whole: Mapping[str, Mapping[str, float]], part: str) -> float:
    return sum(hours[part] for hours in whole.values())


def _judged(least: float, reach: float, measured: float | None) -> str:
    if measured is None:
        verdict = "not measured"
    else:
        verdict = "reached" if measured >= reach else "met" if measured >= least else "missed"
    return f"| {least:g} | {reach:g} | {_times(measured)} | {verdict} |"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
