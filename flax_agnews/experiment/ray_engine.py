"""Runs a comparison's parts as tasks of a Ray cluster: Ray places them, and starts those again whose node is lost.

Ray is imported where it is used: it is slow to import, and not everybody has it.
"""

import importlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from flax_agnews.config import Config, DataConfig, ModelConfig
from flax_agnews.errors import Lost, UserError, first_line
from flax_agnews.experiment.jobs import Job
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.progress import job_of
from flax_agnews.experiment.rate_search import Search
from flax_agnews.experiment.ray_cluster import Needs, alive, needs, token_of
from flax_agnews.experiment.ray_parts import Outcome, Part, Terms
from flax_agnews.experiment.ray_relay import Board, Desk
from flax_agnews.models.pretrained import Base
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.recorded_paths import recorded
from flax_agnews.system.files import read_json, settings_from
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training import adaptation
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.state import Setup

RETRIES = 5
"""How often a task starts again whose process or node is lost; one that is lost each time may be the reason itself."""

_SECONDS = 0.2  # between looks at what tasks report
_SEEN_SECONDS = 90  # longest wait for a file of another node: NFS clients look for new files every 60 s at least


def on_ray(config: Config) -> bool:
    """Whether the comparison's runs are tasks of a Ray cluster."""
    return config.parallel.engine == "ray"


def train_on_ray(made: Prepared, jobs: Sequence[Job], finished: Callable[[Job, list[str]], None]) -> None:
    """Trains jobs as tasks of the cluster, several at once.

    Args:
        made: the prepared experiment.
        jobs: the runs; Ray starts them in this order.
        finished: called after each job, with those of its runs that stopped since their numbers were not finite.

    Raises:
        Stopped: on a signal; all runs are saved.
        UserError: bad input that a task found; all other runs are saved.
        Lost: a task's process or node was lost again and again.
    """
    record, epochs = _record(made), made.config.train.epochs
    named = {str(job_of(job.setup.name, job.seeds, epochs)): job for job in jobs}
    parts = {
        name: Part("train", job.setup.name, job.setup.factor, tuple(job.seeds), record) for name, job in named.items()
    }
    for name, outcome in _outcomes(made, parts):
        job = named[name]
        _await_results(made, job.setup.name, outcome.written)
        made.computed_on.update(outcome.machine)
        finished(job, list(outcome.faults))


def search_on_ray(made: Prepared, base: Base, setups: Sequence[Setup]) -> list[Setup]:
    """Chooses each strategy's learning rates, a task for each search; otherwise as `train_on_ray`.

    Args:
        made: the prepared experiment.
        base: the body that trials start from.
        setups: the strategies on the model.

    Returns:
        The strategies at their best rates.
    """
    search, record = Search.of(made, lambda devices: {}), _record(made)
    chosen: dict[str, Setup] = {}
    for setup in setups:
        identity = made.identity(setup, base)
        if trial_record.read_own(made.folder.path, setup.name, identity).factor is not None:
            chosen[setup.name] = search.choose(setup, identity)  # done before: only reported
    todo = {f"search {setup.name}": setup for setup in setups if setup.name not in chosen}
    parts = {task: Part("search", setup.name, adaptation=record) for task, setup in todo.items()}
    for task, outcome in _outcomes(made, parts):
        assert outcome.factor is not None
        chosen[todo[task].name] = todo[task].at(outcome.factor)
    return [chosen[setup.name] for setup in setups]


def adapt_on_ray(made: Prepared) -> tuple[Base, Adaptation]:
    """Adapts the body by language modelling, in one task, which keeps it in the output folder; as `train_on_ray`.

    Returns:
        The body, and how it was adapted.
    """
    home = made.folder.path / "base"
    with made.interrupt, made.display:
        for _, outcome in _outcomes(made, {"pretrain": Part("adapt")}):
            assert outcome.adaptation is not None
            end = time.monotonic() + _SEEN_SECONDS
            while time.monotonic() < end:
                if found := adaptation.kept(made.base, outcome.adaptation.key, [home]):
                    return found
                time.sleep(_SECONDS)
    raise UserError(f"{home}: the adapted body, which another node has written, isn't seen here")


def _record(made: Prepared) -> Adaptation | None:
    """How the body was adapted that all runs start from, as its folder says; None if it wasn't."""
    kept: Any = read_json(made.folder.path / "base" / "adaptation.json")
    return Adaptation(**kept) if made.config.pretrain.epochs else None


def _await_results(made: Prepared, name: str, seeds: Sequence[int]) -> None:
    """Waits until this machine sees results that another has written."""
    end = time.monotonic() + _SEEN_SECONDS
    for path in (made.folder.run(name, seed).path / "result.json" for seed in seeds):
        while not path.exists():
            if time.monotonic() > end:
                raise UserError(f"{path}: was written by another node, and isn't seen here")
            time.sleep(_SECONDS)


def terms_of(made: Prepared) -> Terms:
    """What all tasks of a driver have in common."""
    folder, config = made.folder.path.absolute(), made.config
    sections = recorded(config_dict(config))
    alone = replace(config.parallel, engine="local", spread="batch", address=None, task_gpus=None, task_cpus=None)
    model, data = settings_from(ModelConfig, sections["model"]), settings_from(DataConfig, sections["data"])
    config = replace(config, output=str(folder), model=model, data=data, parallel=alone)
    return Terms(token_of(folder), config, made.strategies, replace(made, config=config).facts)


def _outcomes(made: Prepared, parts: Mapping[str, Part]) -> Iterator[tuple[str, Outcome]]:
    """Runs parts as tasks, shows their progress, and gives (task, outcome) of each as it is done.

    A signal, or an error of one, stops all the others, saved, before it is raised.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    if not parts:
        return
    here = On(ray.get_runtime_context().get_node_id(), soft=False)
    desk = ray.remote(num_cpus=0)(Desk).options(scheduling_strategy=here).remote()
    each = needs(made.config.parallel, [node["Resources"] for node in alive()])
    remote = ray.remote(num_cpus=each.cpus, num_gpus=each.gpus, max_retries=RETRIES)(_task)
    terms = ray.put(terms_of(made))
    running = {remote.options(name=task).remote(task, terms, part, desk, each): task for task, part in parts.items()}
    board, stops, failure, stopping = Board(made.display), [], None, False
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=_SECONDS)
            asked = made.interrupt.asked if made.interrupt.check(now=True) else signal.SIGINT if failure else 0
            board.show(_call(desk, "take", int(asked)))
            for reference in done:
                task = running.pop(reference)
                try:
                    outcome = _outcome(task, reference)
                except Exception as error:
                    failure = failure or error
                    continue
                if outcome.stopped:
                    stops.append(outcome.stopped)
                else:
                    yield task, outcome
            if asked and not stopping:
                stopping = True
                for reference, task in running.items():
                    if not board.has_begun(task):  # it may wait for a node for long
                        ray.cancel(reference)
    finally:
        _leave(desk, list(running))
    if failure:
        raise failure
    if stops:
        saved = [where for where in dict.fromkeys(stops) if where.startswith("saved")]
        raise Stopped("; ".join(saved) or stops[0], made.interrupt.asked)


def _outcome(task: str, reference: Any) -> Outcome:
    """How a task ended; a `UserError` of its own is raised here."""
    import ray

    try:
        outcome = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome(stopped="stopped between runs")
    except ray.exceptions.RayTaskError:
        raise  # a mistake of this program, with the task's traceback
    except ray.exceptions.RayError as error:
        times = f"{RETRIES + 1} times" if isinstance(error, ray.exceptions.WorkerCrashedError) else "too often"
        raise Lost(f"{task}: its process or node was lost {times} ({first_line(error)})") from error
    if outcome.error:
        raise UserError(outcome.error)
    return outcome


def _leave(desk: Any, running: Sequence[Any]) -> None:
    """Ends tasks at once that still run, and the desk."""
    import ray

    with suppress(ray.exceptions.RayError):
        for reference in running:
            ray.cancel(reference, force=True)
        ray.kill(desk)


def _task(task: str, terms: Terms, part: Part, desk: Any, each: Needs) -> Outcome:
    """The function that Ray runs on a node."""
    import ray

    # By name: it imports the experiment, which imports this file.
    work = importlib.import_module("flax_agnews.experiment.ray_task").work
    call = partial(_call, desk)
    return work(task, terms, part, call, each, ray.util.get_node_ip_address())


def _call(desk: Any, method: str, *arguments: Any) -> Any:
    """Calls a method of the desk."""
    import ray

    return ray.get(getattr(desk, method).remote(*arguments))
