"""Settings of what an experiment leaves: checkpoints, metrics, and the report's contents."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class CheckpointConfig:
    """When checkpoints are saved, and which are kept.

    Args:
        enabled: Save checkpoints, also when interrupted; without them a stopped run starts over.
        share: Largest share of the time that saving may cost, above 0, at most 1; slow saves are made less often.
        every_steps: Save after every so many updates instead, whatever it costs; 0 uses `share`.
        keep_last: Checkpoints that an unfinished run keeps; if the newest is damaged, an older one is used.
        keep_best: Which runs keep the weights of their best epoch, by validation accuracy: every `run`, the best run of
            each `strategy`, or the best of `all`.
        keep_final: Keep the last checkpoint of a finished run, if there is room, to continue with more `train.epochs`.
        on_failure: What to do when a save fails or makes no progress for 50 seconds: `continue` training with the
            earlier checkpoints, or `stop` after the current update with exit code 2.
        gigabytes: Size limit of weights and checkpoints in the output folder, in 1e9 bytes; by default none.
    """

    enabled: bool = True
    share: float = 0.01
    every_steps: int = 0
    keep_last: int = 2
    keep_best: Literal["run", "strategy", "all"] = "run"
    keep_final: bool = True
    on_failure: Literal["continue", "stop"] = "continue"
    gigabytes: float | None = None


@dataclass
class TrackingConfig:
    """Where metrics are logged besides the output folder.

    Args:
        wandb: Mode of Weights & Biases. `auto` follows WANDB_DISABLED and WANDB_MODE; if not set, it is online where
            an API key is configured, and else disabled. The other values override the environment.
        project: Weights & Biases project; by default that of WANDB_PROJECT, of `wandb init`, or `flax_agnews`.
        predictions: Send every run's predictions of the test texts to Weights & Biases too, as tables; with the texts,
            unless `report.texts` is `none`.
        tensorboard: Write TensorBoard event files into the folders of the runs; needs `pip install tensorboard`.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    predictions: bool = False
    tensorboard: bool = False


@dataclass
class ReportConfig:
    """What the report shows besides the runs.

    Args:
        reference: Cheap classifier that every strategy is compared with: `tfidf` is TF-IDF of words and pairs of words
            with logistic regression, trained on the same rows, its settings chosen on the validation split; `none`.
        texts: Whether `all` validation and test texts are kept in the output folder, so that the report can show them,
            or `none`.
    """

    reference: Literal["tfidf", "none"] = "tfidf"
    texts: Literal["all", "none"] = "all"
