"""What every run of a comparison starts from: the tokenizer, and the body that may be adapted first."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.data.sources import Corpus
from flax_agnews.data.tokens import Tokenizer, load_tokenizer, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.progress import ShownAdapting
from flax_agnews.models.pretrained import Base, read_config
from flax_agnews.system.display import Display
from flax_agnews.system.environment import cache_folder, unwritable
from flax_agnews.system.files import expanded
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training import adaptation, pretrain, processes
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.parallel import Devices
from flax_agnews.training.saving import Saving


def choose_tokenizer(config: Config, corpus: Corpus, kept: Path | None, display: Display) -> Tokenizer:
    """The one that is named; for random weights without one, a vocabulary of the training texts.

    Args:
        config: all settings.
        corpus: the texts.
        kept: folder in which such a vocabulary was kept before, if it may be taken up.
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
    """Keeps what gives the tokenizer again: a vocabulary of the training texts, or a copy of the one that is named.

    The copy is what `load_tokenizer` reads, and transformers: predictions need it when the other one has moved.
    """
    if config.model.trains_tokenizer:
        tokenizer.save(folder)
    elif not (folder / "tokenizer_config.json").exists():
        tokenizer.copy_to(folder)


def adapted(
    config: Config, base: Base, data: Data, end_of_text: int, devices: Devices, display: Display, interrupt: Interrupt
) -> tuple[Base, adaptation.Adaptation | None]:
    """The body after language-model adaptation, from where it was kept or computed now.

    Where no adaptation is asked for, the body itself; the output folder keeps what nothing else can give again.

    Raises:
        Interrupted: `interrupt` was asked for; the state is saved.
    """
    output = expanded(config.output)
    home, work = output / "base", output / "pretrain"
    if not config.pretrain.epochs:
        if processes.is_first() and not base.given_again and not (home / "model.safetensors").exists():
            base.save(home)
        return base, None
    seed = config.train.seed
    facts = (base, data.train, end_of_text, config.pretrain, config.model, seed)
    arranged = adaptation.arrangement(data.train, config.pretrain, config.train, devices, seed)
    key = adaptation.adaptation_key(*facts, arranged)
    cache = cache_folder() / "adapted"
    found = adaptation.kept(base, key, [home, cache / key])
    # An experiment that was begun when language modelling took no settings of `train` goes on with the body it has.
    found = found or adaptation.kept(base, adaptation.adaptation_key(*facts), [home])
    everywhere = processes.gathered(found[0].hash if found else None)
    if found and set(everywhere) == {found[0].hash}:
        display.note(f"pretrain: took the body adapted before ({found[0].hash[:12]})")
    else:
        chosen, note = config.checkpoint, lambda text: display.note(f"pretrain: {text}")
        saving = Saving.of(chosen, "pretrain", display.note)
        keep = pretrain.Keep(Store(work / key[:16], chosen.keep_last, note), saving) if saving else None
        told = ShownAdapting(display, config.pretrain.epochs, interrupt)
        with interrupt, display:
            settings = (config.pretrain, config.model, config.train)
            found = pretrain.adapt(base, data.train, end_of_text, *settings, devices, seed, told, keep)
            told.finish(found[1].loss)
    if processes.is_first():
        adaptation.keep(*found, home)
        try:
            if unwritable(cache_folder()) is None:
                adaptation.keep(*found, cache / found[1].key)
        except UserError as error:  # what can't be cached is computed again another time
            display.note(f"pretrain: the body isn't cached ({error})")
        for folder in work.glob("*"):
            Store(folder).clear()
        with suppress(OSError):  # a write that hangs may have its draft there
            work.rmdir()
    return found
