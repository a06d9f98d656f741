"""What a batch shape costs to compile and to compute with, for `train.shapes: auto`; constants that were measured once.

Nothing is timed while an experiment runs: the prices are a function of the backend, the body and the compute type, so
that the same command gets the same shapes, and the same bytes, at every start. Changed constants can change the shapes
of `auto`, and so the last digits of a run that is resumed by another version of this package.

What may change between two calls on one folder doesn't enter, or the runs in it would change:

- The strategies: they share one plan, with the price of `full`, whichever of them are compared. Others compile and
  compute less, both in about the same proportion.
- The number of epochs, where finished runs can go on for more (a constant learning rate): then shapes are chosen for
  `EPOCHS`, however few or many there are. Otherwise a run can't go on (`experiment/continuation.py`), and
  `train.epochs` counts.
- A folder whose runs have a given number of shapes, as those of earlier versions do, keeps it
  (`runs/output_folder.py`).

The number of runs counts: it already decides with which other batches a run's shapes are planned.
"""

from dataclasses import dataclass

from flax_agnews.config import TrainConfig
from flax_agnews.data.shapes import BLOCK, EPOCHS, Price
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.training.parallel import Devices


@dataclass(frozen=True)
class Speed:
    """How fast a kind of device compiles and computes.

    Attributes:
        compiling, each_layer: seconds to compile a training step for one shape: for any body, and for each layer.
        evaluation, evaluation_layer: the same for an evaluation step.
        products: compute type -> FLOP per second in the matrix products of a training step.
        rest: width of a body at which all else in a layer (norms, activations, attention) takes as long as products.
    """

    compiling: float
    each_layer: float
    evaluation: float
    evaluation_layer: float
    products: dict[str, float]
    rest: int


SPEEDS = {
    # 2 cores, x86 with AVX-512. Compiling: gradients of `full` with dropout, 1, 3, 6 and 12 layers of widths 64 and
    # 768, whose equal layers are compiled once; evaluation likewise. Products: `full` in
    # benchmarks/results/throughput.md; rest: steps of three layers of widths 64, 128 and 256.
    "cpu": Speed(
        compiling=2.6,
        each_layer=0.05,
        evaluation=1.3,
        evaluation_layer=0.01,
        products={"float32": 1.7e11, "bfloat16": 2.7e11},
        rest=100,
    ),
    # NVIDIA H200, benchmarks/results/gpu.md: 12 s for a shape of 12 layers, 421,000 tokens/s in bfloat16. The fixed
    # part has the CPU's share. Not measured, so assumed: float32 (TF32) at half the rate, a shape of evaluation at a
    # third of training's, and the CPU's `rest`.
    "gpu": Speed(
        compiling=2.2,
        each_layer=0.82,
        evaluation=0.7,
        evaluation_layer=0.27,
        products={"float32": 1.2e14, "bfloat16": 2.4e14},
        rest=100,
    ),
}
"""Platform, as JAX calls it -> its speed; other platforms are taken for a GPU."""


def may_grow(train: TrainConfig) -> bool:
    """Whether a run can go on for more epochs later: only where its learning rate doesn't depend on their number."""
    return train.schedule == "constant" and not train.warmup_fraction


def counted_epochs(train: TrainConfig) -> int:
    """Number of epochs for which shapes are chosen."""
    return EPOCHS if may_grow(train) else train.epochs


@dataclass(frozen=True)
class Prices:
    """The prices of a body's shapes on a kind of device.

    Attributes:
        platform: JAX's name of the platform, such as `cpu`.
        body: the body's configuration.
        dtype: compute type of matrix products.
    """

    platform: str
    body: GPT2Config
    dtype: str

    @classmethod
    def of(cls, devices: Devices, body: GPT2Config, dtype: str) -> "Prices":
        """The prices on the devices that share every batch."""
        return cls(devices.devices[0].platform, body, dtype)

    def training(self, train: TrainConfig) -> Price:
        """The price of a training step's shapes, in a run of `train`."""
        speed = self._speed
        compiling = speed.compiling + speed.each_layer * self.body.n_layer
        return Price(compiling, 3 * self._forward, counted_epochs(train))

    def evaluation(self, passes: float) -> Price:
        """The price of an evaluation step's shapes, for a number of passes over the texts."""
        speed = self._speed
        return Price(speed.evaluation + speed.evaluation_layer * self.body.n_layer, self._forward, passes)

    @property
    def _speed(self) -> Speed:
        return SPEEDS.get(self.platform, SPEEDS["gpu"])

    @property
    def _forward(self) -> float:
        """Seconds of a forward pass over a block. In the last layer, only keys and values are computed for all."""
        width, inner = self.body.n_embd, self.body.inner
        layer = 4 * width**2 + 2 * width * inner
        products = 2 * ((self.body.n_layer - 1) * layer + 2 * width**2)
        return BLOCK * products * (1 + self._speed.rest / width) / self._speed.products[self.dtype]
