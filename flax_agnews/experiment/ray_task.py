"""What a Ray task does, on its node: language modelling, a search of rates, or runs, in the driver's output folder.

Ray reuses a process for tasks that need the same devices: data and model are read once in each process. Tasks with a
GPU have a process each (Ray's `max_calls` is 1 for these, since JAX keeps the memory of its GPU).
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from flax_agnews.errors import Diverged, UserError, flag
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.experiment.rate_search import Search
from flax_agnews.experiment.ray_cluster import Needs, seen
from flax_agnews.experiment.ray_parts import Outcome, Part, Terms
from flax_agnews.experiment.ray_relay import Relay, RelayDisplay
from flax_agnews.experiment.results import environment, products
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training import adaptation
from flax_agnews.training.processes import different
from flax_agnews.training.program import Program


class Place:
    """A process in which tasks of one driver run, one after the other: what they share is prepared once.

    Args:
        terms: what the tasks have in common.
        node: address of this node, for errors.

    Raises:
        UserError: this node doesn't see the driver's output folder, or reads something else than the driver did.
    """

    def __init__(self, terms: Terms, node: str) -> None:
        folder = terms.config.output
        if seen(Path(folder), terms.token)["token"] != "yes":
            raise UserError(f"{flag('output')} {folder}: isn't seen from node {node}; choose a folder that all share")
        self.display = RelayDisplay()
        self.experiment = Experiment(terms.config, terms.strategies, self.display, guest=True)
        if changed := different(terms.facts, self.experiment.prepare().facts):
            raise UserError(f"node {node} has something else than the driver: {changed}")
        self._compiled: tuple[Part, Program] | None = None  # of the last runs, which others may use

    def do(self, part: Part) -> Outcome:
        """Does a part of the comparison.

        Raises:
            UserError: bad input, such as too little memory.
            Stopped: on request; saved.
        """
        experiment = self.experiment
        if part.kind == "adapt":
            experiment.adapt()
            return Outcome(adaptation=experiment.adaptation)
        self._start_from(part.adaptation)
        setup = next(setup for setup in experiment.setups if setup.name == part.name)
        if part.kind == "search":
            made = experiment.prepare()
            chosen = Search.of(made, experiment.shared_on).choose(setup, made.identity(setup, experiment.base))
            return Outcome(factor=chosen.factor)
        return self._train(part)

    def _start_from(self, record: adaptation.Adaptation | None) -> None:
        """Reads the adapted body from the output folder, if there is one."""
        experiment = self.experiment
        made = experiment.prepare()
        if experiment.adaptation == record and record is not None:
            return
        home = made.folder.path / "base"
        found = adaptation.kept(made.base, record.key, [home]) if record else (made.base, None)
        if found is None or (record and found[1] != record):
            raise UserError(f"{home}: another adapted body, or none, is seen here")
        experiment.start_from(*found)

    def _train(self, part: Part) -> Outcome:
        experiment, seeds, faults = self.experiment, list(part.seeds), []
        try:
            experiment.train(self._program(part), seeds)
        except Diverged as stopped:
            faults = stopped.faults
        folder = experiment.folder
        return Outcome(faults=faults, written=[seed for seed in seeds if folder.run(part.name, seed).result])

    def _program(self, part: Part) -> Program:
        """The compiled strategy: that of the task before, where that had the same."""
        if self._compiled:
            before, program = self._compiled
            alike = (before.name, before.factor, len(before.seeds)) == (part.name, part.factor, len(part.seeds))
            if alike and before.adaptation == part.adaptation:
                return program
            self._compiled = None  # its arrays are let go before others are made
        setup = next(setup for setup in self.experiment.setups if setup.name == part.name)
        setup = setup if part.factor is None else setup.at(part.factor)
        program = self.experiment.compile(setup, {len(part.seeds)})
        self._compiled = part, program
        return program


_places: dict[str, Place] = {}  # by the driver's token; one


def work(task: str, terms: Terms, part: Part, call: Callable[..., Any], needs: Needs, node: str) -> Outcome:
    """Does a task, and returns how it ended; what an error for people says is returned too.

    Args:
        task: name of the task.
        terms: what all tasks have in common.
        part: what this one does.
        call: calls a method of the driver's desk by name.
        needs: the task's devices.
        node: address of this node.
    """
    if not needs.gpus:  # before JAX starts its devices
        os.environ["NPROC"] = str(needs.cpus)  # the number of XLA's threads
        jax.config.update("jax_platforms", "cpu")
    with Relay(call, task, node) as relay:
        try:
            if terms.token not in _places:
                _places.clear()
                _places[terms.token] = Place(terms, node)
            place = _places[terms.token]
            place.display.relay = relay
            relay.watch(place.experiment.interrupt)
            if relay.signal:
                raise Stopped("", relay.signal)
            outcome = place.do(part)
        except UserError as error:
            return Outcome(error=error.message)
        except Stopped as stop:
            return Outcome(stopped=stop.where or "stopped between runs")
        devices = place.experiment.devices
        machine = {**environment(devices), "products": products(terms.config.model, devices)}
        return replace(outcome, machine=machine)
