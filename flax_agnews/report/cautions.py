"""Sentences on what makes an experiment's scores mean little, or flatters them: plain texts for every page."""

from collections.abc import Iterator

from flax_agnews.errors import listed
from flax_agnews.runs.results import Results
from flax_agnews.system.model_names import BUILTIN


def cautions(results: Results) -> Iterator[tuple[str, str]]:
    """What is the matter, and the rest of the sentence or the sentences that explain it."""
    if results.model.name.startswith("random "):
        yield (
            "Random weights.",
            "The body was not loaded from a trained GPT-2 but initialised at random: "
            "these accuracies say nothing about GPT-2.",
        )
    if results.model.name.partition(",")[0] == BUILTIN:  # or `builtin, adapted`
        yield (
            "The builtin body.",
            "It is small and has read nothing but generated stories: these accuracies say nothing about GPT-2.",
        )
    level = results.data.majority_accuracy
    if idle := [run for run in results.runs if run.test_accuracy <= level]:
        names = listed(f"{run.strategy} seed {run.seed}" for run in idle)
        yield (
            "No better than the majority class",
            f"({100 * level:.1f} %): {names}. "
            "These runs learned nothing that the test shows; their other figures mean little.",
        )
    if results.diverged:
        yield (
            "Stopped where numbers were not finite",
            f"– {listed(results.diverged)}. "
            "Figures are those of the runs that went well, which may flatter their strategies.",
        )
    if skipped := [run for run in results.runs if run.skipped_updates]:
        names = listed(f"{run.strategy} seed {run.seed} ({run.skipped_updates:,})" for run in skipped)
        yield "Updates that were not finite", f"were left out: {names}."
