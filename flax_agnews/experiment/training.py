"""Compiles a strategy, and trains the runs of a job: from their checkpoints to their files in the output folder."""

from collections.abc import Collection, Sequence

from flax_agnews.errors import Diverged
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.probe import write_probe
from flax_agnews.experiment.progress import CachingObserver, RunsObserver, advice, compiling, wait_for
from flax_agnews.experiment.results import run_predictions, run_result
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base
from flax_agnews.system.interrupt import Stopped
from flax_agnews.trained.finished_run import weights_record
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.lane import Lane
from flax_agnews.training.loop import TrainedRun, train_runs
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.program import Program, training_loss
from flax_agnews.training.state import Setup


def compile_strategy(
    made: Prepared, setup: Setup, shared: Parameters, group_sizes: Collection[int], wait: bool
) -> Program:
    """Caches the output of a strategy's frozen layers, and compiles its steps; without `wait`, in the background.

    Args:
        made: the experiment.
        setup: the strategy on the model.
        shared: the body's weights on the devices.
        group_sizes: numbers of seeds that will train together, each of which is compiled.
        wait: whether to wait until all is compiled.

    Raises:
        Stopped: on a signal during the caching.
    """
    observer, train = CachingObserver(made.display, setup.name, made.interrupt), made.config.train
    try:
        with out_of_memory(train):
            inputs = made.activations.inputs(setup, shared, made.batches, observer)
    except Interrupted:
        raise Stopped("stopped while caching", made.interrupt.asked) from None
    write_probe(made, inputs)
    with compiling(made.display, setup.name, made.devices.platform), out_of_memory(train):
        loss = training_loss(made.data.train.labels, setup.model.classes, train)
        return Program(setup, made.devices, shared, inputs, loss, group_sizes, made.compiler, wait)


def train_job(
    made: Prepared, base: Base, adaptation: Adaptation | None, program: Program, seeds: Sequence[int]
) -> list[TrainedRun]:
    """Trains and tests runs of one strategy together, resuming from their checkpoints, and writes their results.

    Args:
        made: the experiment.
        base: the body that the runs start from.
        adaptation: the result of language modelling, if there was any.
        program: the compiled strategy.
        seeds: seeds of the runs.

    Raises:
        Stopped: on a signal; the runs are saved.
        Diverged: numbers of some runs were not finite; the others are finished.
    """
    config, name = made.config, program.setup.name
    steps_per_epoch, epochs = made.batches.steps_per_epoch, config.train.epochs
    observer = RunsObserver(made.display, name, seeds, epochs, steps_per_epoch, made.interrupt)
    identity = made.identity(program.setup, base)
    about = weights_record(made.data.classes, made.tokenizer, base.config)
    lanes = [made.outputs.lane(name, seed, identity, program.devices, about) for seed in seeds]
    saving = made.outputs.saving(name, made.keeps_final, program.devices)
    try:
        with out_of_memory(config.train):
            wait_for(program, made.display)  # where it compiles in the background
            runs = train_runs(program, lanes, epochs, saving=saving, observer=observer)
        finished = [(lane, run) for lane, run in zip(lanes, runs, strict=True) if run]
        for lane, run in finished:
            lane.tracker.log(run.totals, steps_per_epoch * len(run.history.val_accuracy))
    except Interrupted as stop:
        where = ", ".join(f"{name}/seed-{seed}" for seed in seeds)
        said = f"saved at {where}, step {stop.step}" if stop.step else f"stopped in {where}, not saved"
        raise Stopped(said, made.interrupt.asked) from None
    finally:
        for lane in lanes:
            lane.tracker.finish()
    with made.writing:
        for lane, run in finished:
            if lane.writes:
                result = run_result(program, lane.seed, run, adaptation, epochs, name in config.custom)
                made.write(lane, saving, result, run_predictions(made.data, run))
    observer.tested(runs, [lane.fault for lane in lanes], made.data.majority_accuracy)
    _check(lanes, name, made)
    return [run for _, run in finished]


def _check(lanes: Sequence[Lane], name: str, made: Prepared) -> None:
    """Raises `Diverged` where runs have stopped because their numbers were not finite."""
    if faults := [f"{name} seed {lane.seed} {lane.fault}" for lane in lanes if lane.fault]:
        raise Diverged(faults, advice(made.config))
