"""Prepares what all runs of a comparison share: the tokenizer, and the body that may be adapted first."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from flax_agnews.config import Config
from flax_agnews.data.sources import Corpus
from flax_agnews.data.tokens import Tokenizer, load_tokenizer, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.progress import JobObserver
from flax_agnews.models.pretrained import Base, read_config
from flax_agnews.system.display import Display, Job
from flax_agnews.system.environment import cache_folder, unwritable
from flax_agnews.system.files import expanded
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training import adaptation, pretrain
from flax_agnews.training.adaptation import AdaptationTask
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.saving import Saving


def choose_tokenizer(config: Config, corpus: Corpus, kept: Path | None, display: Display) -> Tokenizer:
    """The tokenizer that the settings name; for random weights without one, one made from the training texts.

    Args:
        config: all settings.
        corpus: the texts.
        kept: folder in which such a vocabulary was kept by an earlier call, if it may be used again.
        display: where progress is shown.
    """
    model, special = config.model, config.data.special_tokens
    if not config.model.trains_tokenizer:
        return load_tokenizer(model.tokenizer or model.name, special)
    if kept and (kept / "merges.txt").exists():
        return load_tokenizer(str(kept), special)
    assert model.from_config is not None
    vocabulary = read_config(model.from_config).vocab_size
    with display.busy(f"making a vocabulary of {vocabulary:,} from the training texts"), TemporaryDirectory() as folder:
        train_tokenizer(corpus.train.strings, vocabulary).save(Path(folder))
        return load_tokenizer(folder, special)


def keep_tokenizer(config: Config, tokenizer: Tokenizer, folder: Path) -> None:
    """Saves the tokenizer into the output folder: predictions need it when the one that is named has moved.

    `load_tokenizer` reads the folder, and so does transformers.
    """
    if config.model.trains_tokenizer:
        tokenizer.save(folder)
    elif not (folder / "tokenizer_config.json").exists():
        tokenizer.copy_to(folder)


def adapted(
    config: Config, task: AdaptationTask, display: Display, interrupt: Interrupt
) -> tuple[Base, adaptation.Adaptation | None]:
    """The body after language-model adaptation, read from where it was kept, or computed now.

    Where no adaptation is asked for, the body itself; the output folder keeps what nothing else can give again.

    Args:
        config: all settings.
        task: what is adapted, on which texts.
        display: where progress is shown.
        interrupt: asked whether to stop.

    Raises:
        Interrupted: `interrupt` was asked for; the state is saved.
    """
    output, team, base = expanded(config.output), task.devices.team, task.base
    home, work = output / "base", output / "pretrain"
    if not config.pretrain.epochs:
        if team.is_first and not base.given_again and not (home / "model.safetensors").exists():
            base.save(home)
        return base, None
    key, cache = task.key, cache_folder() / "adapted"
    found = adaptation.kept(base, key, [home, cache / key])
    # An experiment that was begun when language modelling took no settings of `train` goes on with the body it has.
    found = found or adaptation.kept(base, task.key_of_settings, [home])
    everywhere = team.gathered(found[0].hash if found else None)
    if found and set(everywhere) == {found[0].hash}:
        body, result = found
        display.note(f"pretrain: took the body adapted before ({body.hash[:12]})")
    else:
        with interrupt, display:
            body, result = _computed(config, task, work / key[:16], display, interrupt)
    if team.is_first:
        adaptation.keep(body, result, home)
        try:
            if unwritable(cache_folder()) is None:
                adaptation.keep(body, result, cache / result.key)
        except UserError as error:  # what can't be cached is computed again another time
            display.note(f"pretrain: the body isn't cached ({error})")
        for folder in work.glob("*"):
            Store(folder).clear()
        with suppress(OSError):  # a write that hangs may have its draft there
            work.rmdir()
    return body, result


def _computed(
    config: Config, task: AdaptationTask, folder: Path, display: Display, interrupt: Interrupt
) -> tuple[Base, adaptation.Adaptation]:
    """Adapts the body now, with its checkpoints in a folder, and shows progress."""
    saving = Saving.of(config.checkpoint, "pretrain", display.note)
    store = Store(folder, config.checkpoint.keep_last, lambda text: display.note(f"pretrain: {text}"))
    observer = JobObserver(display, Job("pretrain", "", config.pretrain.epochs), interrupt)
    observer.start()  # compiling takes a while
    body, result = pretrain.adapt(task, observer, store if saving else None, saving)
    ends = dict.fromkeys(f"{loss:.2f}" for loss in (result.loss[0], result.loss[-1]))
    observer.finish(f"loss {' → '.join(ends)}")
    return body, result
