"""The files, checkpoint stores and trackers that the runs of an experiment write to."""

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
from flax_agnews.training.lane import Lane, RunNotes
from flax_agnews.training.parallel import Devices
from flax_agnews.training.saving import Saving


class Outputs:
    """Opens the files, checkpoint stores and trackers of an experiment's runs.

    Args:
        config: all settings.
        folder: the experiment's output folder.
        display: shows messages of trackers and checkpoint stores.
    """

    def __init__(self, config: Config, folder: OutputFolder, display: Display) -> None:
        self.config, self.folder, self.display = config, folder, display
        self._hints: set[str] = set()
        self._savings: dict[str, Saving | None] = {}

    def lane(
        self, name: str, seed: int, identity: Mapping[str, str], devices: Devices, about: Mapping[str, Any]
    ) -> Lane:
        """A run of a strategy, with its metrics file, tracker and checkpoint store.

        Args:
            name: name of the strategy.
            seed: seed of the run.
            identity: hashes that must match before the run is resumed.
            devices: the devices that compute the run.
            about: notes saved with the run's best weights.

        Raises:
            UserError: the run's folder holds a run with another identity.
        """
        chosen, folder = self.config.checkpoint, self.folder.run(name, seed)
        folder.claim(identity)
        result = folder.result  # of a finished run that gets more epochs: it stays valid until they are done
        held = result.best_epoch if result else 0
        checkpoints = folder.path / "checkpoints"
        store = Store(checkpoints, chosen.keep_last, self.display.note, held) if chosen.enabled else None
        lasting = {key: value for key, value in identity.items() if key not in PLANNED}
        train, writes = self.config.train, folder.writes
        return Lane(
            seed,
            store,
            metrics_path=folder.path / "metrics.jsonl" if writes else None,
            tracker=self.tracker(f"{name} seed {seed}", name, folder.path) if writes else None,
            notes=RunNotes(lasting, circumstances(devices), about),
            writes=writes,
            skip=train.on_nonfinite == "skip",
            patience=train.early_stopping,
        )

    def saving(self, name: str, final: bool) -> Saving | None:
        """The schedule of checkpoints, shared by all runs of a strategy, since it measures what a save costs.

        Args:
            name: name of the strategy.
            final: whether the last states of finished runs are kept.
        """
        chosen = self.config.checkpoint
        if name not in self._savings:
            if chosen.enabled and chosen.keep_final and not final:
                no_room = "no room for the last states of finished runs: they can't go on with more epochs"
                self.display.note(f"{name}: {no_room}")
            self._savings[name] = Saving.of(chosen, name, self.display.note, final)
        return self._savings[name]

    def tracker(self, name: str, group: str, folder: Path) -> Tracker:
        """Opens the tracker of a run; its message for the user is shown once per experiment."""
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
        """Sends the final figure and table to W&B, where it is on, unless they were sent before.

        Args:
            figure: the picture file.
            order: names of the strategies, in the table's order.
        """
        columns = ["strategy", "seed", "test_accuracy", "test_macro_f1", "trainable_parameters"]
        rows = [[getattr(run, column) for column in columns] for run in self.folder.finished(order)]
        done, mark = self.folder.path / "wandb" / "published.json", sorted(rows, key=lambda row: row[:2])
        with suppress(UserError):  # a damaged file: published again
            if read_json(done) == mark:
                return
        tracker = self.tracker("comparison", "comparison", self.folder.path)
        tracker.table("results", columns, rows)
        tracker.figure("accuracy_curves", figure)
        if tracker.finish():
            with suppress(UserError):  # a full disk: the experiment is finished anyway
                write_json(done, mark)
