"""Model cards are filled from the run, and the code on them gives the run's logits."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.bounds import BOUNDS
from support.exported_runs import TEXTS, Made, card_of
from support.small_experiments import results

from flax_agnews import Classifier, export_run
from flax_agnews.strategies import REGISTRY
from flax_agnews.trained.exports.card import write_card
from flax_agnews.trained.loading import LoadedRun, load_run


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("strategy", ["prompt", "lora", "ia3"])
def test_the_cards_own_code_gives_an_adapters_logits_in_peft(
    runs: dict[str, Path], tmp_path: Path, strategy: str
) -> None:
    """On a body saved by our own code; prefix tuning needs another call (`tests/contracts/test_peft_parity.py`)."""
    run, folder = runs[strategy], tmp_path / "peft"
    assert export_run(run, "peft", folder).difference < BOUNDS["hugging_face"]
    body = tmp_path / "body"
    shutil.copytree(run.parents[1] / "base", body)
    shutil.copytree(run.parents[1] / "tokenizer", body, dirs_exist_ok=True)
    head, text = card_of(folder)
    assert head["library_name"] == "peft"
    code = text.split("```python\n")[1].split("```")[0]
    for name, value in (("BODY", body), ("DIR", folder)):
        code = code.replace(f'"{name}"', repr(str(value)))
    for question in (TEXTS[0], "<|endoftext|> is a word here"):
        scope: dict[str, Any] = {}
        exec(code.replace('"A text."', repr(question)), scope)
        ours = Classifier.load(run).predict([question]).logits
        np.testing.assert_allclose(scope["logits"].detach().numpy(), ours, rtol=0, atol=BOUNDS["hugging_face"])


def test_the_card_is_filled_from_the_run(full: Made) -> None:
    head, text = card_of(full.folder)
    assert head["pipeline_tag"] == "text-classification"
    assert {"base_model", "datasets"}.isdisjoint(head)  # random weights, and generated texts
    [run] = [run for run in results(full.run.parents[1])["runs"] if run["strategy"] == "full"]
    scores = [
        run["val_accuracy"][run["best_epoch"] - 1],
        *(run[f"test_{name}"] for name in ("accuracy", "macro_f1", "loss")),
    ]
    told = " | ".join(f"{score:.4f}" if score is not None else "–" for score in scores)
    assert f"| 42 (this one) | {run['best_epoch']} | {told} |" in text
    data = results(full.run.parents[1])["data"]
    assert f"`builtin`: {data['train']} training, {data['validation']} validation, {data['test']} test texts" in text
    assert ", ".join(f"`{name}`" for name in data["classes"]) in text
    assert REGISTRY["full"].paper in text
    assert f"first {load_run(full.run).max_length} tokens" in text
    settings = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert settings["full"] == run["settings"]
    assert settings["train"]["epochs"] == 1


def test_a_card_names_hub_repositories_and_hides_local_paths(parts: LoadedRun, tmp_path: Path) -> None:
    model = replace(parts.config.model, from_config=None, name="openai-community/gpt2")
    data = replace(parts.config.data, source="fancyzhx/ag_news")
    write_card(replace(parts, config=replace(parts.config, model=model, data=data)), tmp_path, "", [])
    head, _ = card_of(tmp_path)
    assert (head["base_model"], head["datasets"]) == ("openai-community/gpt2", ["fancyzhx/ag_news"])
    model, data = replace(model, name="/home/me/private/gpt2"), replace(data, source="/home/me/private/news.csv")
    write_card(replace(parts, config=replace(parts.config, model=model, data=data)), tmp_path, "", [])
    head, text = card_of(tmp_path)
    assert {"base_model", "datasets"}.isdisjoint(head)
    assert "private" not in text
    assert "`gpt2`" in text
    assert "`news.csv`" in text


def test_the_cards_own_code_runs(full: Made, parts: LoadedRun) -> None:
    code = card_of(full.folder)[1].split("```python\n")[1].split("```")[0].replace('"DIR"', repr(str(full.folder)))
    scope: dict[str, Any] = {}
    exec(code, scope)
    [found] = scope["classify"]([TEXTS[0]])
    assert [found["label"]] == Classifier.load(full.run).predict([TEXTS[0]]).labels
