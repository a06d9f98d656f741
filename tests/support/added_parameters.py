"""A classifier before and after a strategy adds its parameters, and the logits of both."""

import jax

from flax_agnews.data.batches import measure
from flax_agnews.models import parameters
from support import tiny

TEXTS = tiny.random_split([1, 40, 70, 9])
BATCH = tiny.whole(TEXTS, range(4), measure(TEXTS.tokens.lengths, devices=1, micro_batches=1))


def adapted(name, seed=0, **settings):
    """(the plain classifier, the one that a strategy makes of it)."""
    plain = tiny.random_base().classifier(4, jax.random.key(5))
    return plain, tiny.build(name, **settings).adapt(plain, jax.random.key(seed))


def weights_of(model):
    return parameters.split(model)[1]


def logits(model):
    return tiny.by_number(model(BATCH), BATCH)
