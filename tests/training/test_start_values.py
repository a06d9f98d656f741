"""Starting from what PEFT or transformers saved gives their logits; files that don't fit are refused."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support.parity import logits
from support.peft_models import logits_of
from support.reference import Tensors, change, configure, random_gpt2, random_texts, saved
from support.small_experiments import small
from support.tiny import build, prepare
from transformers import GPT2ForSequenceClassification

from flax_agnews.cli import arguments
from flax_agnews.config import ModelConfig
from flax_agnews.data.builtin_words import TOPICS
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.trained.classifier import Classifier as Trained
from flax_agnews.trained.exports.peft import write_adapter
from flax_agnews.training.start_values import start_values
from flax_agnews.training.state import Setup, create_state

# PEFT 0.21 asks transformers 5.24 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CLASSES = ["world", "sports", "business", "science"]
ADAPTER = "adapter_model.safetensors"
SETTINGS: Mapping[str, dict[str, Any]] = {
    "lora": {"rank": 3, "alpha": 6.0, "targets": "attn.c_proj,c_attn", "top_layers": 1, "rslora": True},
    "ia3": {},
    "prefix": {"tokens": 4},
    "prompt": {"tokens": 4},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A body, in a folder with a head for it."""
    model = random_gpt2(GPT2ForSequenceClassification, num_labels=len(CLASSES), pad_token_id=0, n_positions=80)
    return load_base(ModelConfig(name=saved(model, tmp_path_factory.mktemp("body"))))


@pytest.fixture(scope="module")
def set_up(base: Base) -> Callable[[str], Setup]:
    """A strategy on the body, by name."""
    return cache(lambda name: prepare(build(name, base.config, **SETTINGS.get(name, {})), base))


def begun(setup: Setup, start: str | Path, classes: list[str] = CLASSES, changed_body: bool = False) -> Setup:
    values = start_values(setup.model, setup.trainable_shapes, str(start), classes, changed_body)
    return replace(setup, model=replace(setup.model, start_values=values))


def model_of(setup: Setup) -> ClassifierModule:
    """What a run begins with."""
    shared = {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}
    state, frozen = create_state(setup, shared, seed=0)
    return setup.model.frame.merge({**frozen, **state.params})


def written(setup: Setup, folder: Path) -> dict[str, np.ndarray]:
    """Random values for all that trains, in a PEFT adapter."""
    rng = np.random.default_rng(1)
    values = {p: rng.standard_normal(s, np.float32) for p, s in setup.model.shapes.items() if p in setup.trainable}
    folder.mkdir(exist_ok=True)
    write_adapter(folder, setup.model.strategy, setup.model.base, values, CLASSES)
    return values


# PEFT


@pytest.mark.parametrize("name", SETTINGS)
def test_what_was_written_is_what_a_run_begins_with(name: str, set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    setup = set_up(name)
    values = written(setup, tmp_path)
    ours = begun(setup, tmp_path)
    shared = {path: jnp.asarray(value) for path, value in setup.model.base.parameters.items()}
    for seed in (0, 1):
        params = create_state(ours, shared, seed)[0].params
        assert params.keys() == values.keys()
        for path, value in values.items():
            np.testing.assert_array_equal(params[path], value, err_msg=path)
    assert ours.model.fingerprint != setup.model.fingerprint


PEFTS = {
    "lora": peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", use_rslora=True, fan_in_fan_out=True),
    "ia3": peft.IA3Config(fan_in_fan_out=True),
    "prefix": peft.PrefixTuningConfig(num_virtual_tokens=4),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=4),
}


@pytest.mark.parametrize("name", PEFTS)
def test_what_peft_saved_gives_its_logits(name: str, base: Base, tmp_path: Path) -> None:
    fields = {**SETTINGS[name], **({"targets": "c_attn,c_fc,c_proj", "top_layers": None} if name == "lora" else {})}
    config = replace(PEFTS[name], task_type="SEQ_CLS")
    theirs = peft.get_peft_model(GPT2ForSequenceClassification.from_pretrained(base.name), config).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    theirs.save_pretrained(tmp_path)
    ours = model_of(begun(prepare(build(name, base.config, **fields), base), tmp_path))
    texts = [np.maximum(ids, 1) for ids in random_texts((21,) * 6)]
    np.testing.assert_allclose(logits(ours, texts), logits_of(theirs, texts), rtol=0, atol=1e-4)


# Methods, and whether a padded batch has the logits of each text alone; on the left it never has.
PADDED = {"lora": True, "ia3": True, "prefix": True, "prompt": False}


@pytest.mark.parametrize("name", PADDED)
def test_padded_batches_are_as_the_card_says(name: str, set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    setup = set_up(name)
    written(setup, tmp_path)
    classifier = GPT2ForSequenceClassification.from_pretrained(setup.model.base.name)
    model = peft.PeftModel.from_pretrained(classifier, tmp_path).eval()
    texts = [np.maximum(ids, 1) for ids in random_texts((5, 21, 13))]
    alone = np.concatenate([logits_of(model, [ids]) for ids in texts])
    off = {side: np.abs(logits_of(model, texts, side) - alone).max() for side in ("right", "left")}
    assert bool(off["right"] < 1e-3) is PADDED[name]
    assert off["left"] > 0.1
    assert setup.model.strategy.peft
    assert ("alone if the padding is on the right" in setup.model.strategy.peft.padded) is PADDED[name]


def edit(**fields: Any) -> Callable[[Path], None]:
    """Changes fields of adapter_config.json."""

    def apply(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))

    return apply


def tensors(how: Callable[[dict[str, np.ndarray]], Any], **notes: str) -> Callable[[Path], None]:
    """Changes the adapter's tensors and notes."""

    def apply(folder: Path) -> None:
        found = load_file(folder / ADAPTER)
        how(found)
        save_file(found, folder / ADAPTER, metadata={"format": "pt", **notes})

    return apply


def pickled(folder: Path) -> None:
    (folder / ADAPTER).unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def cut(folder: Path) -> None:
    (folder / ADAPTER).write_bytes((folder / ADAPTER).read_bytes()[:-1])


HEAD, PROMPT = "base_model.score.weight", "prompt_embeddings"
REFUSED: Mapping[str, tuple[str, Callable[[Path], Any], str]] = {
    "rank": ("lora", edit(r=4), "has rank 4, not 3; give --lora.rank 4"),
    "alpha": ("lora", edit(lora_alpha=8), "give --lora.alpha 8"),
    "rslora": ("lora", edit(use_rslora=False), "give --lora.rslora False"),
    "a rank of its own": ("lora", edit(rank_pattern={"c_attn": 2}), "rank_pattern: {'c_attn': 2}"),
    "DoRA": ("lora", edit(use_dora=True), "use_dora: True"),
    "a changed body": ("lora", edit(init_lora_weights="pissa"), "init_lora_weights: pissa"),
    "targets": (
        "lora",
        tensors(lambda found: [found.pop(key) for key in [*found] if "c_proj" in key]),
        "give --lora.targets attn.c_attn",
    ),
    "layers": (
        "lora",
        tensors(lambda found: found.update({key.replace("h.1", "h.0"): value for key, value in found.items()})),
        "has top_layers 2, not 1; give --lora.top_layers 2",
    ),
    "tokens": ("prompt", edit(num_virtual_tokens=7), "give --prompt.tokens 7"),
    "method": ("prompt", edit(peft_type="PREFIX_TUNING"), "strategy prompt starts from PROMPT_TUNING"),
    "no method": ("prompt", edit(peft_type={"a": 1}), "method {'a': 1}"),
    "body": ("prompt", tensors(lambda found: None, base_sha256="1" * 64), "was trained on the body"),
    "classes": (
        "prompt",
        tensors(lambda found: found.update({HEAD: found[HEAD][:3].copy()})),
        "doesn't fit strategy prompt with 4 classes: base_model.score.weight is [3, 32] instead of [4, 32]",
    ),
    "other classes": (
        "prompt",
        tensors(lambda found: None, classes='["a", "b", "c", "d"]'),
        "its classes are a, b, c, d",
    ),
    "shape": (
        "prompt",
        tensors(lambda found: found.update({PROMPT: found[PROMPT].T.copy()})),
        "[32, 4] instead",
    ),
    "whole numbers": ("prompt", tensors(lambda found: found.update({HEAD: found[HEAD].astype(int)})), "is int64"),
    "missing": ("ia3", tensors(lambda found: found.popitem()), "lacks base_model"),
    "unknown": ("ia3", tensors(lambda found: found.update(more=np.ones(2, "f"))), "has weights that strategy ia3"),
    "damaged": ("ia3", cut, "is truncated or damaged"),
    "pickle": ("ia3", pickled, "adapter_model.bin, a pickle"),
    "no tensors": ("ia3", lambda folder: (folder / ADAPTER).unlink(), "has no adapter_model.safetensors"),
    "no JSON": ("ia3", lambda folder: (folder / "adapter_config.json").write_text("{"), "can't be read"),
    "no object": ("ia3", lambda folder: (folder / "adapter_config.json").write_text("[]"), "is not a JSON object"),
    "nothing": ("ia3", lambda folder: (folder / "adapter_config.json").unlink(), "has neither adapter_config.json"),
    "no folder": ("ia3", shutil.rmtree, "no such directory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_does_not_fit(case: str, set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    name, spoil, told = REFUSED[case]
    folder = tmp_path / "adapter"
    written(set_up(name), folder)
    spoil(folder)
    with pytest.raises(UserError) as caught:
        begun(set_up(name), folder)
    message = caught.value.with_flags
    assert told in message
    assert message.startswith(f"--model.start {folder}")


@pytest.mark.parametrize("name", ["adapter", "lora_prompt", "full"])
def test_a_method_that_peft_has_not(name: str, set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    setup = set_up(name)
    with pytest.raises(UserError, match=f"PEFT has no such method as strategy {name}"):
        write_adapter(tmp_path, setup.model.strategy, setup.model.base, {}, CLASSES)
    written(set_up("prompt"), tmp_path)
    with pytest.raises(UserError, match=f"PEFT has no such method as strategy {name}"):
        begun(setup, tmp_path)


def test_the_body_must_stay_as_it_is(set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    written(set_up("prompt"), tmp_path)
    with pytest.raises(UserError, match=r"pretrain\.epochs"):
        begun(set_up("prompt"), tmp_path, changed_body=True)


def test_language_modelling_is_a_change_of_the_body(tmp_path: Path) -> None:
    request = arguments.parse(
        small(tmp_path / "out", "--strategy", "lora", "--model.start", str(tmp_path), "--pretrain.epochs", 1)
    )
    with Experiment(request.config, request.entries) as experiment, pytest.raises(UserError) as caught:
        experiment.prepare()
    assert "was made for the body as it is, which --pretrain.epochs changes" in caught.value.with_flags


# Classifiers of Hugging Face


@pytest.mark.parametrize("order", [CLASSES, CLASSES[2:] + CLASSES[:2]], ids=["same order", "another order"])
def test_a_classifier_gives_its_logits_before_training(order: list[str], base: Base, tmp_path: Path) -> None:
    folder = shutil.copytree(base.name, tmp_path / "classifier")
    configure(folder, id2label={str(number): name for number, name in enumerate(order)})
    ours = model_of(begun(prepare("full", load_base(ModelConfig(name=str(folder)))), folder))
    texts = [np.maximum(ids, 1) for ids in random_texts((21,) * 6)]
    with torch.no_grad():
        theirs = GPT2ForSequenceClassification.from_pretrained(folder)(torch.tensor(np.array(texts))).logits.numpy()
    columns = [order.index(name) for name in CLASSES]
    np.testing.assert_allclose(logits(ours, texts), theirs[:, columns], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("theirs", "ours", "columns"),
    [
        (["2", "0", "1", "3"], ["0", "1", "2", "3"], [1, 2, 0, 3]),  # names that are digits are names
        (CLASSES, ["0", "1", "2", "3"], [0, 1, 2, 3]),  # mere numbers: positions
        ([f"LABEL_{i}" for i in range(4)], CLASSES[::-1], [0, 1, 2, 3]),  # transformers' own: no names
        ([f"LABEL_{i}" for i in (2, 0, 1, 3)], [f"LABEL_{i}" for i in range(4)], [1, 2, 0, 3]),
    ],
)
def test_names_of_a_head_are_matched_first(
    theirs: list[str], ours: list[str], columns: list[int], base: Base, tmp_path: Path
) -> None:
    folder = shutil.copytree(base.name, tmp_path / "classifier")
    configure(folder, id2label={str(number): name for number, name in enumerate(theirs)})
    head = load_file(folder / "model.safetensors")["score.weight"].T
    setup = prepare("full", load_base(ModelConfig(name=str(folder))))
    np.testing.assert_array_equal(begun(setup, folder, ours).model.start_values["score/kernel"], head[:, columns])


def drop_head(tensors: Tensors) -> None:
    del tensors["score.weight"]


def move_body(tensors: Tensors) -> None:
    tensors["transformer.wpe.weight"] += 1


CLASSIFIERS: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "no head": (lambda folder: change(folder, drop_head), "lacks score.weight"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "lacks score.weight"),
    "another body": (lambda folder: change(folder, move_body), "its body is another than"),
    "other classes": (
        lambda folder: configure(folder, id2label={str(number): f"class {number}" for number in range(4)}),
        "its classes are class 0, class 1, class 2, class 3; the data's are world, sports",
    ),
}


@pytest.mark.parametrize("case", CLASSIFIERS)
def test_a_classifier_that_does_not_fit(case: str, set_up: Callable[[str], Setup], tmp_path: Path) -> None:
    spoil, told = CLASSIFIERS[case]
    setup = set_up("ia3")
    folder = shutil.copytree(setup.model.base.name, tmp_path / "classifier")
    spoil(folder)
    with pytest.raises(UserError) as caught:
        begun(setup, folder)
    assert told in str(caught.value)


def test_a_classifier_of_another_number_of_classes(set_up: Callable[[str], Setup]) -> None:
    setup = set_up("ia3")
    with pytest.raises(UserError, match=r"with 3 classes: score\.weight is \[4, 32\] instead of \[3, 32\]"):
        begun(setup, setup.model.base.name, CLASSES[:3])


# A whole run


def test_a_run_that_starts_from_an_adapter(tmp_path: Path) -> None:
    flags = ("--strategy", "ia3", "--ia3.learning_rate", 1e-9, "--train.runs", 1, "--train.epochs", 1)
    request = arguments.parse(small(tmp_path / "runs", *flags, "--model.start", tmp_path / "adapter"))
    config = request.config
    base = load_base(config.model, config.train.seed)
    setup = prepare(build("ia3", base.config), base)
    rng = np.random.default_rng(3)
    values = {p: rng.standard_normal(s, np.float32) for p, s in setup.model.shapes.items() if p in setup.trainable}
    (tmp_path / "adapter").mkdir()
    backwards = [topic.name for topic in reversed(TOPICS)]
    write_adapter(tmp_path / "adapter", setup.model.strategy, base, values, backwards)

    Experiment(config, request.entries).run()
    body = {path: jnp.asarray(value) for path, value in base.parameters.items()}
    in_order = {**values, "score/kernel": values["score/kernel"][:, ::-1]}
    expected = setup.model.frame.merge({**body, **in_order})
    trained = Trained.load(tmp_path / "runs")
    texts = ["Oil prices climb after the summit", "The match ended in a draw", "Shares fell"]
    ids = trained._tokenizer.encode(texts, trained.max_length)
    ours = trained.predict(texts).logits
    np.testing.assert_allclose(ours, logits(expected, [ids[i] for i in range(len(texts))]), rtol=0, atol=1e-4)

    Experiment(config, request.entries).run()  # finished: nothing is done, and nothing is refused
    values["score/kernel"] += 1
    write_adapter(tmp_path / "adapter", setup.model.strategy, base, values, backwards)
    with pytest.raises(UserError, match="strategy"):
        Experiment(config, request.entries).run()
    shutil.rmtree(tmp_path / "adapter")  # what trained is in the best weights: the start isn't needed any more
    np.testing.assert_array_equal(Trained.load(tmp_path / "runs").predict(texts).logits, ours)
