"""Plans batches of few different shapes from the settings: of training for all seeds and epochs, and of evaluation."""

from collections.abc import Sequence

from flax_agnews.config import TrainConfig
from flax_agnews.data.batches import EvalBatches, TrainBatches
from flax_agnews.data.encoded import Split
from flax_agnews.data.shapes import MOST
from flax_agnews.metrics.scores import balanced_weights
from flax_agnews.training.parallel import Devices
from flax_agnews.training.shape_prices import Prices


def plan_batches(
    data: Split, train: TrainConfig, seeds: Sequence[int], devices: Devices, prices: Prices | None = None
) -> TrainBatches:
    """Plans the training batches of every seed and epoch, with few different shapes.

    Args:
        data: the training texts.
        train: settings of training.
        seeds: seeds of the runs.
        devices: the devices that share every batch.
        prices: what shapes cost, for `train.shapes: auto`; without them, `auto` is the largest number.
    """
    given = None if train.shapes == "auto" else train.shapes
    return TrainBatches(
        data.tokens,
        data.labels,
        batch_size=train.batch_size,
        seeds=seeds,
        epochs=train.epochs,
        devices=len(devices),
        micro_batch_tokens=train.micro_batch_tokens,
        most_shapes=given or MOST,
        price=prices.training(train) if prices and not given else None,
        together=train.parallel_seeds,
        weights=balanced_weights(data.labels) if train.class_weights == "balanced" else None,
    )


def plan_evaluation(
    data: Split, train: TrainConfig, devices: Devices, prices: Prices | None = None, passes: float = 1
) -> EvalBatches:
    """Plans batches in which every text of a split occurs once.

    Args:
        data: the texts.
        train: settings of training.
        devices: the devices that share every batch.
        prices: what shapes cost, for `train.shapes: auto`; without them, there are at most two.
        passes: number of times that the texts will be evaluated.
    """
    price = prices.evaluation(passes) if prices and train.shapes == "auto" else None
    size, most = train.eval_batch_size, train.micro_batch_tokens
    return EvalBatches(data.tokens, data.labels, size, len(devices), most, price)
