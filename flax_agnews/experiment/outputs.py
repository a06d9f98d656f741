"""Where the numbers and weights of an experiment's runs go: files in their folders, and trackers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flax_agnews.config import Config
from flax_agnews.errors import UserError
from flax_agnews.metrics.tracking import Tracker, open_tracker
from flax_agnews.runs.identity import PLANNED
from flax_agnews.runs.output_folder import OutputFolder, config_dict
from flax_agnews.system.display import Display
from flax_agnews.system.files import read_json, write_json
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.exactness import circumstances
from flax_agnews.training.group import Lane
from flax_agnews.training.parallel import Devices
from flax_agnews.training.saving import Saving


class Places:
    """Of one experiment.

    Args:
        config: all settings.
        folder: for all files.
        display: told what trackers and saves have to say.
    """

    def __init__(self, config: Config, folder: OutputFolder, display: Display) -> None:
        self.config, self.folder, self.display = config, folder, display
        self._hints: set[str] = set()
        self._savings: dict[str, Saving | None] = {}

    def lane(
        self, name: str, seed: int, identity: Mapping[str, str], devices: Devices, about: Mapping[str, Any]
    ) -> Lane:
        """One run of a strategy, and the places in its folder; `about` is kept with its best weights.

        Raises:
            UserError: the folder is of a run of something else.
        """
        chosen, folder = self.config.checkpoint, self.folder.run(name, seed)
        folder.claim(identity)
        result = folder.result  # of a finished run that goes on: it stands till then
        held = result.best_epoch if result else 0
        place = (folder.path / "checkpoints", chosen.keep_last, self.display.note, held)
        store = Store(*place) if chosen.enabled else None
        lasting = {key: value for key, value in identity.items() if key not in PLANNED}
        train = self.config.train
        skip = train.on_nonfinite == "skip"
        facts = (lasting, circumstances(devices), folder.writes, skip, about, train.early_stopping)
        if not folder.writes:
            return Lane(seed, store, None, None, *facts)
        tracker = self.tracker(f"{name} seed {seed}", name, folder.path)
        return Lane(seed, store, folder.path / "metrics.jsonl", tracker, *facts)

    def saving(self, name: str, final: bool) -> Saving | None:
        """When a strategy's runs are saved: what a save costs is known from one run to the next.

        Args:
            name: the strategy's.
            final: whether their last states are kept.
        """
        chosen = self.config.checkpoint
        if name not in self._savings:
            if chosen.enabled and chosen.keep_final and not final:
                told = "no room for the last states of finished runs: they can't go on with more epochs"
                self.display.note(f"{name}: {told}")
            self._savings[name] = Saving.of(chosen, name, self.display.note, final)
        return self._savings[name]

    def tracker(self, name: str, group: str, folder: Path) -> Tracker:
        """A run's; what it has to say is said once in an experiment."""
        tracker, hint = open_tracker(
            self.config.tracking,
            name=name,
            group=group,
            settings=config_dict(self.config),
            folder=folder,
            note=self.display.note,
        )
        if hint and hint not in self._hints:
            self._hints.add(hint)
            self.display.note(hint)
        return tracker

    def publish(self, figure: Path, order: Sequence[str]) -> None:
        """The final figure and table, strategies in this order, to W&B where it is on, unless it has them already."""
        columns = ["strategy", "seed", "test_accuracy", "test_macro_f1", "trainable_parameters"]
        rows = [[getattr(run, column) for column in columns] for run in self.folder.finished(order)]
        done, mark = self.folder.path / "wandb" / "published.json", sorted(rows, key=lambda row: row[:2])
        with suppress(UserError):  # damaged: published once more
            if read_json(done) == mark:
                return
        tracker = self.tracker("comparison", "comparison", self.folder.path)
        tracker.table("results", columns, rows)
        tracker.figure("accuracy_curves", figure)
        if tracker.finish():
            with suppress(UserError):  # a full disk: the comparison is finished all the same
                write_json(done, mark)
