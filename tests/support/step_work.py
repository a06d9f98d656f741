"""Operations of a training step: by the library's own count, and by the compiler's."""

from typing import Any

import jax

from flax_agnews.training.flops import Amount, training_flops
from flax_agnews.training.state import Setup, create_state
from flax_agnews.training.step import classification_loss, make_gradients
from support import tiny

SPLIT = tiny.random_split([32] * 8)


def needed(setup: Setup) -> float:
    """Of the gradient of what learns, by our count."""
    return training_flops(setup, Amount.of(SPLIT.tokens.lengths))


def counted(setup: Setup) -> float:
    """The same by the compiler's, on texts that fill their blocks: no padding."""
    one, shape = tiny.devices(), tiny.even(blocks=8, slots=8, lookback=1)
    batch = jax.tree.map(lambda x: x[None, None], tiny.whole(SPLIT, range(8), shape))
    state, frozen = create_state(setup, one.shared(dict(setup.model.base.parameters)), seed=0)
    learning = {path: state.params[path] for path in setup.learning}

    def gradients(params: Any, frozen: Any, batch: Any) -> Any:
        return make_gradients(setup.model, classification_loss)(params, frozen, batch, None)

    others = {**frozen, **{path: value for path, value in state.params.items() if path not in learning}}
    compiled: Any = one.compile(gradients, learning, others, one.batch(batch), donate=False)
    return compiled.cost_analysis()["flops"]
