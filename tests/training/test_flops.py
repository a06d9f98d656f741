"""Operations of training: against the compiler's count, by hand, and over whole runs with stages and caches."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from support import tiny
from support.step_work import counted, needed
from support.strategy_sizes import trained

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.training.flops import Amount, frozen_flops, run_flops, training_flops


@pytest.mark.parametrize("name", tiny.original_first())
def test_work_is_what_the_compiler_counts(name: str) -> None:
    """XLA's own count of the operations of the gradient."""
    body = GPT2Config(vocab_size=101, n_positions=64, n_embd=256, n_layer=3, n_head=4)
    setup = tiny.prepare(tiny.build(name, body), tiny.random_base(body), dropout=0.0)
    # The compiler also counts norms, activations and softmax, and whole blocks of attention where ours has its causal
    # half: together 5 to 8 % at this width, up to 10 % where no weights have gradients. The least of the products, a
    # layer's queries, keys and values in one of the three directions, is 4 to 6 %.
    assert 1.04 < counted(setup) / needed(setup) < (1.08 if name in tiny.ALL else 1.1)


BODY = GPT2Config(vocab_size=10, n_positions=16, n_embd=2, n_layer=1, n_head=1, n_inner=6)


def test_work_by_hand() -> None:
    """One text of three tokens, one layer: every product written out."""
    # keys and values of 3 tokens; the last one's query, output, MLP of 6; its 3 scores and weighted values; 5 classes
    forward = 2 * (3 * 2 * 4 + 2 * 2 + 2 * 2 + 2 * 6 + 6 * 2)
    attention, head = 2 * (3 * 2 + 3 * 2), 2 * 2 * 5
    text = Amount.of(np.array([3]))
    full, alone = (trained(tiny.build(name, BODY), BODY, classes=5)[0] for name in ("full", "head"))
    assert training_flops(full, text) == 3 * forward + 3 * attention + 3 * head
    assert training_flops(alone, text) == forward + attention + 2 * head
    assert training_flops(alone, text, first=1) == 2 * head
    assert frozen_flops(alone, text, depth=1) == forward + attention


def test_work_of_two_tokens_of_a_prompt_by_hand() -> None:
    """Before the same text. The prompt's keys and values alone are computed of it, in the only layer."""
    setup, _ = trained(tiny.build("prompt", BODY, tokens=2), BODY, classes=5)
    text, head = Amount.of(np.array([3])), 2 * 2 * 5
    forward = 2 * ((3 + 2) * 2 * 4 + 2 * 2 + 2 * 2 + 2 * 6 + 6 * 2) + 2 * 5 * (2 + 2)
    upwards = 2 * (2 * 2 + 2 * 6 + 6 * 2)  # of the query's output and MLP
    # weights of 5 keys, for softmax; values and keys of the prompt's 2; and their product with the kernels
    before = 2 * (5 * 2 + 2 * 2 + 2 * 2) + 2 * 2 * 2 * 4
    assert training_flops(setup, text) == forward + upwards + before + 3 * head


def test_work_of_more_tokens_and_of_fewer_layers() -> None:
    """At GPT-2's size: 6 operations a parameter and token for all layers but the last, as is usual to count."""
    body, texts = GPT2Config(), Amount.of(np.full(32, 52))
    full, partial = (trained(tiny.build(name, body), body)[0] for name in ("full", "partial"))
    whole, kernels = training_flops(full, texts), 12 * 768**2
    assert whole == pytest.approx(6 * 11 * kernels * 32 * 52, rel=0.05)  # the last layer's keys and values: 1.5 %
    assert training_flops(partial, texts, first=6) == pytest.approx(whole * 5.2 / 11.2, rel=0.02)


# Of whole runs

SPLIT = tiny.random_split(tiny.random_lengths(35))


@pytest.mark.parametrize("name", ["full", "prompt"])
def test_a_run_is_the_sum_of_its_updates(name: str) -> None:
    setup, batches, lengths = tiny.prepare(name), tiny.planned(SPLIT, epochs=2), SPLIT.tokens.lengths
    updates = [batches.rows(0, epoch, step) for epoch in range(2) for step in range(batches.steps_per_epoch)]
    each = [training_flops(setup, Amount.of(lengths[rows])) for rows in updates]
    assert run_flops(setup, [batches], lengths, epochs=2) == pytest.approx(sum(each), rel=1e-12)


def test_cached_layers_count_once_and_stages_by_what_they_train() -> None:
    """Stages of an epoch each: the head on the cache of all three layers, the top layer on that of two, and so on."""
    setup, lengths = tiny.prepare(tiny.build("gradual", layers=1)), SPLIT.tokens.lengths
    plain, tokens, width = tiny.planned(SPLIT, epochs=4), lengths.sum(), tiny.CONFIG.n_embd
    cached = [copy.copy(plain) for _ in setup.stages]
    for batches, depth in zip(cached, [3, 2, 1, 0], strict=True):
        batches.data = replace(batches.data, depth=depth)
    layer = 24 * width**2 * tokens + 4 * width * (lengths * (lengths + 1) / 2).sum()
    pooled = 4 * width**2 * tokens + 20 * width**2 * len(lengths) + 4 * width * tokens
    head = 3 * 2 * len(lengths) * width * tiny.CLASSES  # the norm below it trains too
    one = run_flops(setup, cached, lengths, epochs=1)
    assert one == pytest.approx(2 * layer + pooled + head, rel=1e-12)
    two = run_flops(setup, cached, lengths, epochs=2)
    assert two - one == pytest.approx(2 * layer + 3 * pooled + head, rel=1e-12)
    for epochs in (1, 2, 3, 4):  # a cache for one epoch saves nothing
        without = run_flops(setup, [plain] * 4, lengths, epochs)
        assert run_flops(setup, cached, lengths, epochs) == pytest.approx(without, rel=1e-12)
    first = replace(setup, spans=setup.spans[:1])
    assert run_flops(first, cached[:1], lengths, epochs=4) == pytest.approx(one + 3 * head, rel=1e-12)
