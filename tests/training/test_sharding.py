"""A training state split over devices (fsdp): the numbers of one device, a part on each, and resumed on any number."""

from dataclasses import replace
from functools import cache
from math import prod

import jax
import numpy as np
import optax
import pytest
from support import tiny
from support.bounds import BOUNDS, assert_same_leaves, assert_same_losses
from support.seed_groups import SPLIT, StopAt, trained
from support.small_experiments import ONE_LAYER, results, small
from support.strategy_setups import gradients_of, setup_of

from flax_agnews.config import ParallelConfig
from flax_agnews.data.batches import EvalBatches
from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.strategies import Strategy
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.parallel import Devices
from flax_agnews.training.sharding import share, split_axis

STEPS = 20


def split(count: int = 4) -> Devices:
    return Devices("jit", tuple(jax.local_devices()[:count]), fsdp=True)


@pytest.mark.parametrize(
    ("shape", "devices", "leading", "axis"),
    [
        ((1600, 4800), 8, 0, 0),
        ((50257, 1600), 8, 0, 1),
        ((50257, 1600), 7, 0, None),
        ((768,), 8, 0, None),
        ((), 8, 0, None),
        ((8, 768), 8, 1, None),
        ((8, 50257, 768), 8, 1, 2),
        ((768, 768), 1, 0, None),
        ((0, 768), 8, 0, 1),
    ],
)
def test_which_axis_is_split(shape, devices, leading, axis):
    assert split_axis(shape, devices, leading) == axis


# Contract 7


def course(setup, where, together=1, micro_batch_tokens=16384):
    """(gradients of the first batch, losses and norms of 20 steps) of one or several seeds."""
    seeds = tuple(range(together))
    how = {"seeds": seeds, "together": together, "micro_batch_tokens": micro_batch_tokens}
    program = tiny.training(setup, SPLIT, where, epochs=4, **how)
    state, frozen = program.start_together(seeds)
    first = {path: np.asarray(g) for path, g in gradients_of(program, state, frozen, seeds)[1].items()}
    rows = []
    for number in range(STEPS):
        place = divmod(number, program.batches.steps_per_epoch)
        state, metrics = program.train_together(state, frozen, seeds, *place)
        rows.append([np.asarray(metrics["loss"] / metrics["weight"]), np.asarray(metrics["grad_norm"])])
    assert {leaf.sharding for leaf in jax.tree.leaves(state)} <= {*places_of(state, where)}
    return first, np.array(rows)


def places_of(state, where):
    return [leaf.sharding for leaf in jax.tree.leaves(where.like_state(state))]


@cache
def alone(name, together):
    return course(setup_of(name), tiny.devices(), together)


CASES = [
    ("full", 2, 300),
    ("gradual", 1, 16384),
    *(pytest.param(*case, marks=pytest.mark.long) for case in [("full", 1, 16384), ("lora", 1, 300)]),
    *(pytest.param(name, 1, 16384, marks=pytest.mark.long) for name in ("partial", "prefix", "adapter")),
]


@pytest.mark.parametrize(("name", "together", "micro_batch_tokens"), CASES)
def test_a_split_state_has_the_numbers_of_one_device(name, together, micro_batch_tokens):
    gradients, losses = course(setup_of(name), split(), together, micro_batch_tokens)
    reference, expected = alone(name, together)
    assert_same_leaves(gradients, reference)
    assert_same_losses(losses[:, 0], expected[:, 0])
    np.testing.assert_allclose(losses[:, 1], expected[:, 1], rtol=1e-3)
    assert losses[:, 0].max() > 1.01 * losses[:, 0].min()


def of_whole_leaves():
    """An optimizer that needs the norm of every leaf, the global norm and, of matrices, their orthogonal factor."""
    orthogonal = optax.contrib.muon(1e-3)
    ratios = optax.chain(optax.clip_by_global_norm(0.05), optax.scale_by_trust_ratio(), optax.scale(-1e-2))
    patterns = {r"(attn|mlp)/.*kernel$": orthogonal, r".*": ratios}
    return tiny.prepare(Strategy.by_pattern("whole", patterns), tiny.random_base(replace(tiny.CONFIG, n_layer=2)))


def test_an_optimizer_of_whole_leaves_computes_with_whole_leaves():
    setup = of_whole_leaves()
    (_, ours), (_, theirs) = course(setup, split()), course(setup, tiny.devices())
    assert_same_losses(ours[:, 0], theirs[:, 0])
    assert (theirs[:, 1] > 0.05).all()  # clipped


def test_an_update_that_is_not_finite_is_skipped():
    program = tiny.training(setup_of("gradual"), SPLIT, split(), epochs=4)
    state, frozen = program.start(0)
    bad = {path: value * np.inf if path == "score/kernel" else value for path, value in state.params.items()}
    state = program.devices.state(replace(state, params=bad))
    before = [np.array(leaf) for leaf in jax.tree.leaves((state.params, state.opt_state))]
    state, metrics = program.train_step(state, frozen, 0, 0, 0)
    assert bool(metrics["skipped"])
    assert int(state.step) == 1
    after = jax.tree.leaves((state.params, state.opt_state))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(after, before, strict=True))


# What each device holds


@pytest.fixture(scope="module")
def wide():
    """Of `full` on a wide body with few tokens, whose weights are most of the memory: (setup, program by devices)."""
    config = replace(tiny.CONFIG, n_layer=5, n_embd=128, vocab_size=128)
    setup, texts = tiny.prepare("full", tiny.random_base(config)), tiny.random_split([3] * 8)
    return setup, {where.fsdp: tiny.training(setup, texts, where) for where in (tiny.devices(4), split())}


def test_each_device_holds_its_part_of_the_state(wide):
    setup, programs = wide
    state, _ = programs[True].start(0)
    expected = share(setup, 4)
    for device in jax.local_devices()[:4]:
        sizes = {
            part: sum(
                shard.data.nbytes
                for leaf in jax.tree.leaves(getattr(state, part))
                for shard in leaf.addressable_shards
                if shard.device == device
            )
            for part in ("params", "opt_state")
        }
        assert sizes == {"params": expected.weights, "opt_state": expected.optimizer}
    matrices = 4 * sum(prod(shape) for shape in setup.trainable_shapes.values() if len(shape) == 2)
    vectors = 4 * setup.trainable_parameters - matrices
    assert expected.weights == matrices / 4 + vectors
    assert share(setup, 1).optimizer == setup.optimizer_bytes
    assert share(setup, 4, seeds=3).total == 3 * expected.total


def test_a_step_takes_a_part_of_the_memory(wide):
    """Of 5 layers at most three are whole at once, beside gradients in parts."""
    setup, programs = wide
    whole, parts = (next(iter(programs[fsdp]._gradients.values())).wait().memory_analysis() for fsdp in (False, True))
    for size in ("argument_size_in_bytes", "output_size_in_bytes"):
        assert getattr(parts, size) < 0.27 * getattr(whole, size)
    assert parts.temp_size_in_bytes < whole.temp_size_in_bytes
    update = next(iter(programs[True]._update.values())).wait().memory_analysis()
    assert update.output_size_in_bytes < 1.01 * (share(setup, 4).weights + share(setup, 4).optimizer)


def test_weights_are_gathered_again_in_the_backward_pass(wide):
    _, programs = wide
    text = next(iter(programs[True]._gradients.values())).wait().as_text()
    layers, matrices, others = 5, 4, 3  # two tables and the head
    assert text.count(" all-gather(") == matrices * (2 * (layers - 1) + 1) + others
    assert text.count(" reduce-scatter(") == matrices * layers + others


# Resuming


def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    """Of 15 updates, 6 are made on four devices and 5 on two, with fsdp; the rest without, on one."""
    setup = setup_of("full")

    def on(where):
        texts = EvalBatches(SPLIT.tokens, SPLIT.labels, 35, devices=len(where))
        both = {"validation": texts, "test": texts}
        return tiny.training(setup, SPLIT, where, seeds=(0, 1), epochs=3, together=2, evaluated=both)

    for where, step in ((split(), 6), (split(2), 11)):
        with pytest.raises(Interrupted):
            trained(on(where), tmp_path / "ours", StopAt(step))
    last = StopAt()
    ours = trained(on(tiny.devices()), tmp_path / "ours", last)
    assert last.went_on == [11]
    for one, other in zip(ours, trained(on(tiny.devices()), tmp_path / "theirs"), strict=True):
        assert_same_losses(one.history.train_loss, other.history.train_loss)
        assert_same_losses(one.history.val_loss, other.history.val_loss)


# Where it applies


def test_one_device_computes_the_same_bytes():
    def updated(where):
        program = tiny.training(setup_of("head"), SPLIT, where)
        state, frozen = program.start(0)
        for step in range(3):
            state, _ = program.train_step(state, frozen, 0, 0, step)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]

    assert updated(split(1)) == updated(tiny.devices())


def test_pmap_is_refused():
    with pytest.raises(UserError, match="fsdp true: is for one process and"):
        Devices.of(ParallelConfig(mode="pmap", fsdp=True))


def test_the_command_trains_split(tmp_path, capsys):
    flags = ("--strategy", "full", "--train.runs", 1, "--parallel.devices", 4, *ONE_LAYER)
    assert main(small(tmp_path / "ours", *flags, "--parallel.fsdp", "true")) == 0
    assert "4 x CPU, with the training state split over them" in capsys.readouterr().out
    assert main(small(tmp_path / "theirs", *flags)) == 0
    ours, theirs = (results(tmp_path / name)["runs"][0] for name in ("ours", "theirs"))
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=BOUNDS["losses"])
    assert main(small(tmp_path / "ours", *flags)) == 0  # its runs are done
