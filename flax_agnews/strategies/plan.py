"""What a strategy makes its optax transformations from: length and shared settings of a run, schedules, AdamW.

Optax is imported where it is used, so that the command line reads the settings of strategies without JAX.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flax_agnews.config import TrainConfig

if TYPE_CHECKING:
    import optax

FROZEN: Literal["frozen"] = "frozen"
"""The transformation, and the label, of parameters that don't train."""

Transform: TypeAlias = "optax.GradientTransformation | Literal['frozen']"


@dataclass(frozen=True)
class Plan:
    """The length of a run and its shared settings, from which a strategy makes its optax transformations.

    Attributes:
        steps: number of updates in the whole run.
        steps_per_epoch: number of updates per epoch.
        batch_size: texts per update.
        layers: number of layers of the body.
        train: the shared settings (weight decay, schedule, clipping).
    """

    steps: int
    steps_per_epoch: int
    batch_size: int
    layers: int
    train: TrainConfig

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        return -(-self.steps // self.steps_per_epoch)

    def schedule(self, peak: float, begun: int = 0) -> "optax.Schedule":
        """Learning-rate schedule: warm-up from 0 to `peak`, then constant or falling to 0, by `train.schedule`.

        Args:
            peak: the highest learning rate.
            begun: updates of the run before the schedule is first used, for a label that trains from a later stage on.
        """
        import optax

        warmup = round(self.train.warmup_fraction * self.steps)
        rest = max(1, self.steps - warmup)
        after = {
            "constant": lambda: optax.constant_schedule(peak),
            "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
            "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
        }[self.train.schedule]()
        whole = after
        if warmup:
            whole = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
        return (lambda count: whole(count + begun)) if begun else whole

    def adamw(self, peak: float, begun: int = 0) -> "optax.GradientTransformation":
        """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with torch's defaults.

        Args:
            peak, begun: as in `schedule`; weight decay is `train.weight_decay`.
        """
        from flax_agnews.strategies.adamw import adamw

        mask = decays if self.train.weight_decay_mask == "matrices" else None
        return adamw(self.schedule(peak, begun), self.train.weight_decay, mask)

    def clip(self) -> "optax.GradientTransformation":
        """Clips the global norm of all trained gradients at `train.clip_norm`; the identity if that is None."""
        import optax

        from flax_agnews.strategies.clip import clip_by_global_norm

        norm = self.train.clip_norm
        return optax.identity() if norm is None else clip_by_global_norm(norm)


def decays(tree: Any) -> Any:
    """Mask of the leaves with weight decay under `weight_decay_mask: matrices`: all but biases, norms and prompts."""
    import jax

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim >= 2 and not str(path[-1].key).startswith("prompt/"), tree
    )
