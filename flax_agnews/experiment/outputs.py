"""The files, checkpoint stores and trackers that the runs of an experiment write to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_agnews.config import Config, TrackingConfig
from flax_agnews.metrics.tensorboard import TensorBoardTracker, check_tensorboard
from flax_agnews.metrics.trackers import NullTracker, Tracker, Trackers
from flax_agnews.metrics.tracking import check_key, open_tracker
from flax_agnews.runs.identity import PLANNED
from flax_agnews.runs.output_folder import OutputFolder, config_dict
from flax_agnews.system.display import Display
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
        self._savings: dict[tuple[str, Devices], Saving | None] = {}

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

    def saving(self, name: str, final: bool, devices: Devices) -> Saving | None:
        """The schedule of checkpoints, shared by a strategy's runs on a device, since it measures what a save costs.

        Args:
            name: name of the strategy.
            final: whether the last states of finished runs are kept.
            devices: the devices that compute the runs.
        """
        chosen, key = self.config.checkpoint, (name, devices)
        if key not in self._savings:
            if chosen.enabled and chosen.keep_final and not final:
                no_room = "no room for the last states of finished runs: they can't go on with more epochs"
                self.display.note(f"{name}: {no_room}")
            first = all(other != name for other, _ in self._savings)  # of several devices, one says how often it saves
            self._savings[key] = Saving.of(chosen, name, self.display.note, final, says_how_often=first)
        return self._savings[key]

    def tracker(self, name: str, group: str, folder: Path) -> Tracker:
        """Opens the trackers of a run that are on."""
        on = [one for one in (self.wandb(name, group, folder), self.tensorboard(folder)) if one]
        return Trackers(on) if on else NullTracker()

    def wandb(self, name: str, group: str, folder: Path) -> Tracker | None:
        """Opens a W&B run, where W&B is on; its message for the user is shown once per experiment."""
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
        return None if isinstance(tracker, NullTracker) else tracker

    def tensorboard(self, folder: Path) -> Tracker | None:
        """A writer of event files into a folder, where they are asked for."""
        return TensorBoardTracker(folder, self.display.note) if self.config.tracking.tensorboard else None


def check_trackers(config: TrackingConfig) -> None:
    """Raises a `UserError` for a tracker that can't work: W&B online without a key, TensorBoard not installed."""
    check_key(config)
    check_tensorboard(config)
