"""Prepares the tokenizer and the body that all runs of an experiment share; the body may be adapted first."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from flax_agnews.config import Config
from flax_agnews.data.sources import Corpus
from flax_agnews.data.tokens import Tokenizer, load_tokenizer
from flax_agnews.data.vocabularies import write_vocabulary
from flax_agnews.errors import UserError
from flax_agnews.experiment.progress import JobObserver, compiling
from flax_agnews.models.pretrained import Base, read_config
from flax_agnews.runs.sealed import whole_folder
from flax_agnews.system.caches import LIMIT, folder_of, make_room, mark_used
from flax_agnews.system.display import Display, Job
from flax_agnews.system.environment import cache_folder, unwritable
from flax_agnews.system.files import expanded
from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.training import adaptation, pretrain
from flax_agnews.training.adaptation import AdaptationTask
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.saving import Saving


def choose_tokenizer(config: Config, corpus: Corpus, kept: Path | None, display: Display) -> Tokenizer:
    """Loads the tokenizer that the settings name; for random weights without one, trains one on the training texts.

    Args:
        config: all settings.
        corpus: the texts.
        kept: folder of the tokenizer that an earlier call has trained, if it may be reused.
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
        write_vocabulary(corpus.train.strings, vocabulary, Path(folder))
        return load_tokenizer(folder, special)


def keep_tokenizer(config: Config, tokenizer: Tokenizer, folder: Path) -> None:
    """Saves the tokenizer into the output folder, for predictions when the original is gone.

    `load_tokenizer` and transformers can load the folder.
    """
    if config.model.trains_tokenizer:
        tokenizer.save(folder)
    elif not (folder / "tokenizer_config.json").exists():
        tokenizer.copy_to(folder)


def adapted(
    config: Config, task: AdaptationTask, display: Display, interrupt: Interrupt
) -> tuple[Base, adaptation.Adaptation | None]:
    """The body after language-model adaptation, read from the output folder or the cache, or else computed now.

    Without adaptation, the body is returned unchanged; it is saved where it can't be loaded again from elsewhere.

    Args:
        config: all settings.
        task: the body to adapt, and the texts.
        display: where progress is shown.
        interrupt: tells whether a signal asked to stop.

    Returns:
        The body, and how it was adapted; None without adaptation.

    Raises:
        Stopped: on a signal, after saving.
    """
    output, team, base = expanded(config.output), task.devices.team, task.base
    home, work = output / "base", output / "pretrain"
    if not config.pretrain.epochs:
        if team.is_first and not base.given_again and not (home / "model.safetensors").exists():
            base.save(home)
        return base, None
    key, cache = task.key, folder_of("adapted")
    found = adaptation.kept(base, key, [home, cache / key])
    # Older experiments, whose language modelling took no settings of `train`, keep the body that they have.
    found = found or adaptation.kept(base, task.key_of_settings, [home])
    everywhere = team.gathered(found[0].hash if found else None)
    if found and set(everywhere) == {found[0].hash}:
        body, result = found
        display.note(f"pretrain: took the body adapted before ({body.hash[:12]})")
    else:
        try:
            with interrupt, display:
                body, result = _computed(config, task, work / key[:16], display, interrupt)
        except Interrupted as stop:
            where = f"saved in language modelling, step {stop.step}" if stop.step else "stopped in language modelling"
            raise Stopped(where, interrupt.asked) from None
    if team.is_first:
        adaptation.keep(body, result, home)
        if unwritable(cache_folder()) is None:
            _cache(body, result, cache / result.key, display)
        for folder in work.glob("*"):
            Store(folder).clear()
        with suppress(OSError):  # a hanging write may have its temporary file there
            work.rmdir()
    return body, result


def _cache(body: Base, result: adaptation.Adaptation, folder: Path, display: Display) -> None:
    """Caches an adapted body for other experiments; notes where that isn't possible, so that they compute it again."""
    if adaptation.is_kept(result, folder):
        mark_used(folder)
        return
    try:
        if not make_room(sum(array.nbytes for array in body.parameters.values())):
            raise UserError(f"no room under {LIMIT}")
        with whole_folder(folder) as draft:
            adaptation.keep(body, result, draft)
    except UserError as error:
        display.note(f"pretrain: the body isn't cached ({error})")


def _computed(
    config: Config, task: AdaptationTask, folder: Path, display: Display, interrupt: Interrupt
) -> tuple[Base, adaptation.Adaptation]:
    """Adapts the body now, with checkpoints in `folder`, and shows progress."""
    saving = Saving.of(config.checkpoint, "pretrain", display.note)
    store = Store(folder, config.checkpoint.keep_last, lambda text: display.note(f"pretrain: {text}"))
    observer = JobObserver(display, Job("pretrain", "", config.pretrain.epochs), interrupt)
    observer.start()
    with compiling(display, "language modelling", task.devices.platform):
        program = pretrain.compile_steps(task)
    body, result = pretrain.adapt(task, observer, store if saving else None, saving, program)
    ends = dict.fromkeys(f"{loss:.2f}" for loss in (result.loss[0], result.loss[-1]))
    observer.finish(f"loss {' → '.join(ends)}")
    return body, result
