"""Steps are compiled once for all strategies that share them, and the numbers are those of steps compiled alone."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from support import tiny

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.training.batch_plans import plan_batches, plan_evaluation
from flax_agnews.training.compiler import Compiler, compiles_ahead
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs, Program
from flax_agnews.training.step import SmoothedLoss

CONFIG = GPT2Config(vocab_size=101, n_positions=64, n_embd=16, n_layer=2, n_head=2)
TEXTS = tiny.random_split([9, 3, 14, 20, 6, 11, 2, 17], seed=1)
SAME_FUNCTION = ("full", "partial", "head", "llrd")
OTHER_FUNCTIONS = ("prompt", "lora")
SETTINGS = tiny.TrainConfig(batch_size=8, shapes=1, epochs=1, eval_batch_size=8)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were compiled in a test."""
    found, lower = list[str](), Devices.lower

    def counted(self: Devices, function: Any, *examples: Any, **how: Any) -> Any:
        found.append(function.__name__)
        return lower(self, function, *examples, **how)

    monkeypatch.setattr(Devices, "lower", counted)
    return found


@cache
def prepared(name: str) -> Any:
    return tiny.prepare(tiny.build(name, CONFIG), tiny.random_base(CONFIG), dropout=0.0)


def program(name: str, compiler: Compiler, loss: Any = SmoothedLoss(0.1)) -> Program:  # noqa: B008 (frozen)
    where = compiler.devices
    evaluated = {"test": plan_evaluation(TEXTS, SETTINGS, where)}
    inputs = Inputs(plan_batches(TEXTS, SETTINGS, [0], where), evaluated)
    shared = where.shared(dict(prepared(name).model.base.parameters))
    return Program(prepared(name), where, shared, inputs, loss, compiler=compiler)


def numbers(program: Program) -> tuple[np.ndarray, float]:
    """Logits after an update, and the update's loss."""
    state, frozen = program.start(seed=3)
    state, metrics = program.train_step(state, frozen, 0, 0, 0)
    return program.evaluate(state.params, frozen, "test"), float(metrics["loss"])


def test_a_function_is_compiled_once_for_each_structure_of_arguments(compiled: list[str]) -> None:
    compiler = Compiler(tiny.devices())
    four, five = (compiler.devices.like_batch(np.zeros((1, n))) for n in (4, 5))

    def double(state: Any, frozen: Any, batch: Any) -> Any:
        return 2 * batch

    steps = [compiler(double, (), (), shape, same=same) for same in ("a", "b") for shape in (four, five, four)]
    done = [step.wait() for step in steps]
    assert all(step.ready for step in steps)
    assert [step((), (), np.ones((1, 4))).tolist() for step in (done[0], done[5])] == [[2.0] * 4] * 2
    assert len(compiled) == len({id(step) for step in steps}) == 4  # two shapes of two functions
    unknown = [compiler(double, (), (), four, same=same).wait() for same in (None, None, ["has no hash"])]
    assert len(compiled) == len(unknown) + 4


def test_strategies_that_compute_the_same_share_their_evaluation(compiled: list[str]) -> None:
    compiler = Compiler(tiny.devices())
    for name in (*SAME_FUNCTION, *OTHER_FUNCTIONS):
        program(name, compiler)
    different = len(OTHER_FUNCTIONS) + 1
    assert compiled.count("eval_step") == different
    assert compiled.count("prefix_step") == 1  # of the prompt
    assert compiled.count("update_step") == len(SAME_FUNCTION) + len(OTHER_FUNCTIONS)


def test_strategies_that_differ_in_rates_share_their_gradients(compiled: list[str]) -> None:
    compiler = Compiler(tiny.devices())
    program("full", compiler)
    program("llrd", compiler)
    assert compiled.count("gradient_step") == 1
    program("llrd", compiler, SmoothedLoss(0.2))
    assert compiled.count("gradient_step") == 2


@pytest.mark.parametrize("name", ["llrd", "partial"])
def test_shared_programs_give_the_bytes_of_a_strategy_alone(name: str) -> None:
    compiler = Compiler(tiny.devices())
    others = [numbers(program(other, compiler)) for other in SAME_FUNCTION if other != name]
    logits, loss = numbers(program(name, compiler))
    alone, its_loss = numbers(program(name, Compiler(tiny.devices())))
    assert logits.tobytes() == alone.tobytes()
    assert loss == its_loss
    assert all(logits.tobytes() != other.tobytes() for other, _ in others)


@pytest.mark.parametrize(
    ("setting", "platform", "cores", "expected"),
    [
        ("auto", "gpu", 2, True),
        ("auto", "cpu", 64, False),  # training has them all
        ("on", "cpu", 2, True),
        ("on", "gpu", 1, False),
        ("off", "gpu", 16, False),
    ],
)
def test_the_next_strategy_compiles_where_a_core_is_free(
    setting: Any, platform: str, cores: int, expected: bool
) -> None:
    assert compiles_ahead(setting, platform, cores) is expected
