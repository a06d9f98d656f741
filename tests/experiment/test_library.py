"""`fit` gives a classifier that answers, is saved and exported, whatever strategy was given and how."""

import copy
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from support.small_experiments import head_only, settings, small
from transformers import GPT2ForSequenceClassification

import flax_agnews as fa
from flax_agnews.cli import arguments as cli
from flax_agnews.data.sources import load_corpus
from flax_agnews.models import parameters
from flax_agnews.strategies.lora import LoraSettings

TEXTS = ["Oil prices climb as supply falls", "", "The home team wins again"]


def asked() -> fa.Config:
    config = cli.parse(small(Path("not used"), "--train.epochs", 1)).config
    config.strategy, config.strategies = "all", {}
    return config


@pytest.fixture(scope="module")
def result() -> fa.Fitted:
    """Of a fit into a temporary folder, which is gone."""
    config = asked()
    before = copy.deepcopy(config)
    found = fa.fit(fa.lora(rank=2, targets=["c_attn"]), config=config)
    assert config == before
    assert not found.run.output.path.exists()
    return found


def same_answers(result: fa.Fitted, folder: Path, strategy: fa.StrategyLike | None = None) -> None:
    loaded = fa.Classifier.load(folder, strategy=strategy)
    ours, theirs = result.classifier.predict(TEXTS), loaded.predict(TEXTS)
    assert ours.logits.tobytes() == theirs.logits.tobytes()
    assert (loaded.name, loaded.classes) == (result.classifier.name, result.classes)


def test_its_classifier_gives_the_logits_of_the_test_split(result: fa.Fitted) -> None:
    texts = load_corpus(asked().data).test.texts
    answers = result.classifier.predict(texts)
    np.testing.assert_allclose(answers.logits, result.logits, rtol=0, atol=2e-6)
    assert answers.classes == result.classes
    assert len(result.history.val_accuracy) == 1
    assert 0 <= result.test.accuracy <= 1


def test_its_model_is_the_module_with_the_best_weights(result: fa.Fitted) -> None:
    assert isinstance(result.model, nnx.Module)
    found = parameters.split(result.model)[1]
    assert {path for path in found if "lora" in path} == {path for path in result.run.params if "lora" in path}
    for path, value in result.run.params.items():
        np.testing.assert_array_equal(found[path], value)


def test_it_is_saved_and_loaded_again(result: fa.Fitted, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "saved")
    same_answers(result, folder)
    same_answers(result, folder / "lora" / "seed-42")
    same_answers(result, fa.Classifier.load(folder).save(tmp_path / "again"))
    assert (folder / "base").exists()  # random weights, of which only some trained
    written = settings(folder)
    assert (written["strategy"], written["custom"], written["output"]) == ("lora", [], str(folder))
    assert (written["lora"]["rank"], written["lora"]["targets"]) == (2, "c_attn")
    with pytest.raises(fa.UserError, match="saved: is not empty; choose another folder"):
        result.save(folder)
    assert not list(tmp_path.glob(".*"))


def test_it_is_exported(result: fa.Fitted, tmp_path: Path) -> None:
    for name, export in (("peft", result.export), ("hf", result.classifier.export)):
        exported = export(name, tmp_path / name)
        assert (exported.name, exported.folder) == ("lora/seed-42", tmp_path / name)
        assert exported.difference < 1e-5
    assert GPT2ForSequenceClassification.from_pretrained(tmp_path / "hf").num_labels == 4
    assert f"| 42 (this one) | 1 | {result.history.val_accuracy[0]:.4f} |" in (tmp_path / "hf/README.md").read_text()
    with pytest.raises(fa.UserError, match="hf: is not empty"):
        result.export("hf", tmp_path / "hf")
    result.export("hf", tmp_path / "hf", overwrite=True)
    with pytest.raises(fa.UserError, match=r"onnx: no such format\. Known: flaxgpt2, hf, peft"):
        result.export("onnx", tmp_path / "onnx")


def test_a_strategy_of_ones_own_is_named_as_such_and_given_again(tmp_path: Path) -> None:
    result = fa.fit(head_only(), config=asked(), output=tmp_path / "out")
    assert (settings(tmp_path / "out")["strategy"], settings(tmp_path / "out")["custom"]) == ("mine", ["mine"])
    folder = result.save(tmp_path / "saved")
    assert settings(folder)["custom"] == ["mine"]
    same_answers(result, folder, head_only())
    with pytest.raises(fa.UserError, match="mine is no registered strategy; pass it"):
        fa.Classifier.load(folder)


def test_where_everything_trained_no_body_is_saved(tmp_path: Path) -> None:
    result = fa.fit("full", config=asked())
    folder = result.save(tmp_path / "saved")
    assert not (folder / "base").exists()
    same_answers(result, folder)
    same_answers(result, folder, "full")
    with pytest.raises(fa.UserError, match="was trained by another full"):
        fa.Classifier.load(folder, strategy=fa.full(learning_rate=1))


# A strategy is given in many ways


LIKE = {
    "an entry with settings": lambda: fa.lora(rank=2),
    "settings": lambda: LoraSettings(rank=2),
    "a strategy": lambda: fa.lora.build(LoraSettings(rank=2), fa.load_base(asked().model).config),
}


@pytest.mark.parametrize("like", LIKE.values(), ids=list(LIKE))
def test_a_description_takes_each(like: object) -> None:
    assert fa.describe(like(), asked().model) == fa.describe(fa.lora(rank=2), asked().model)  # type: ignore[operator]
    assert fa.describe("lora", asked().model) == fa.describe(fa.lora, asked().model)
    assert fa.describe("lora", asked().model) != fa.describe(fa.lora(rank=2), asked().model)


def test_an_experiment_records_settings_as_the_commands_flags_are(tmp_path: Path) -> None:
    flags = ("--strategy", "lora,head", "--lora.rank", 2, "--lora.targets", "c_attn", "--head.learning_rate", 0.5)
    request = cli.parse(small(tmp_path / "command", *flags))
    command = fa.Experiment(request.config, request.entries)
    config = asked()
    config.strategies = {"lora": LoraSettings(rank=7), "head": fa.head.settings(learning_rate=0.5)}
    config.train.epochs = request.config.train.epochs
    script = fa.Experiment(config, [fa.lora(rank=2, targets=["c_attn"]), "head"])
    assert script.config.strategies == command.config.strategies
    assert script.config.strategy == command.config.strategy
    assert script.config.custom == command.config.custom == []
    assert config.strategies["lora"].rank == 7


def test_an_entry_that_isnt_registered_is_custom() -> None:
    other = fa.Entry("head", fa.full.settings, fa.full.build, "another")
    assert fa.Experiment(asked(), ["lora", other]).config.custom == ["head"]
    assert fa.Experiment(asked(), [fa.lora(rank=2), fa.head]).config.custom == []


# An experiment is lazy


def test_making_an_experiment_reads_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = fa.Config(output="out", data=fa.DataConfig(source="./nowhere.csv"), model=fa.ModelConfig(name="./none"))
    with fa.Experiment(config, ["full", head_only()]) as experiment:
        assert (experiment.names, experiment.seeds) == (["full", "mine"], [42, 43, 44])
        assert experiment.config.strategy == "full,mine"
    assert list(tmp_path.iterdir()) == []
    for use in (experiment.prepare, experiment.run, lambda: experiment.setups, lambda: experiment.data):
        with pytest.raises(fa.UserError, match=r"nowhere\.csv"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_is_prepared_once_and_isnt_changed_from_outside(tmp_path: Path) -> None:
    config = asked()
    config.output = str(tmp_path / "out")
    strategies: list[fa.StrategyLike] = ["head"]
    with fa.Experiment(config, strategies) as experiment:
        config.train.epochs, config.output = 99, "elsewhere"
        strategies.append("full")
        assert not (tmp_path / "out").exists()
        assert [setup.name for setup in experiment.setups] == ["head"]
        assert experiment.prepare() is experiment.prepare()
        assert settings(tmp_path / "out")["train"]["epochs"] == 1
        with (
            fa.Experiment(experiment.config, ["head"]) as other,
            pytest.raises(fa.UserError, match=r"out is in use by process"),
        ):
            other.prepare()
    fa.Experiment(experiment.config, ["head"]).prepare().folder.lock.release()
