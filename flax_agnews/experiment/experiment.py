"""Runs every strategy from every seed into an output folder: skips finished runs, resumes the others."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.errors import Diverged
from flax_agnews.experiment.compared_strategies import compared, config_of
from flax_agnews.experiment.continuation import going_on, to_do
from flax_agnews.experiment.data_files import write_data_files
from flax_agnews.experiment.disk_budget import drop_weights
from flax_agnews.experiment.jobs import Job, Programs, train_on_devices
from flax_agnews.experiment.preparation import adapted
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.progress import advice, job_of
from flax_agnews.experiment.publication import publish
from flax_agnews.experiment.rate_search import Search
from flax_agnews.experiment.ray_cluster import remove_tokens
from flax_agnews.experiment.ray_engine import adapt_on_ray, on_ray, search_on_ray, train_on_ray
from flax_agnews.experiment.start import prepare
from flax_agnews.experiment.training import compile_strategy, train_job
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base
from flax_agnews.report.answer import Answer
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.results import Results
from flax_agnews.settings.keywords import check_config
from flax_agnews.strategies import StrategyLike
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training.adaptation import Adaptation, AdaptationTask
from flax_agnews.training.loop import TrainedRun
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program
from flax_agnews.training.state import Setup


class Experiment:
    """A comparison of fine-tuning strategies on one data set and one body, each from several seeds.

    The constructor only checks the settings. `run` trains, tests and writes the results, skips finished runs, and
    resumes the others. `adapt`, `search`, `compile` and `train` are its parts. Each of these, and each attribute that
    needs data or model, calls `prepare` first. As a context manager, it releases the output folder's lock on exit.

    Args:
        config: all settings, copied. `config.strategy` isn't read; config.yaml gets the names of `strategies`.
        strategies: names of registered strategies, such as "lora"; entries, such as `flax_agnews.lora(rank=4)`;
            settings, such as `LoraSettings(rank=4)`; or your own `Strategy` objects. A registered strategy without
            settings gets those in `config.strategies`, or else its defaults.
        display: where progress is shown; by default plain lines on standard output.
        overwrite: start over in an output folder that is in use.
        guest: train runs in the folder of another process, as a task of a cluster does: neither claims nor locks it.

    Attributes:
        names: names of the strategies.
        seeds: seeds of each strategy's runs.
        adaptation: the result of language modelling before fine-tuning; None until it is done, and without it.

    Raises:
        UserError: invalid settings or strategies.
    """

    def __init__(
        self,
        config: Config,
        strategies: Sequence[StrategyLike],
        display: Display | None = None,
        overwrite: bool = False,
        guest: bool = False,
    ) -> None:
        check_config(config)
        chosen = compared(strategies)
        self.names, self._config = [strategy.name for strategy in chosen], config_of(config, chosen)
        self.seeds = [config.train.seed + run for run in range(config.train.runs)]
        self.adaptation: Adaptation | None = None
        self._to_prepare = partial(prepare, self._config, chosen, self.seeds, display, overwrite, guest=guest)
        self._prepared: Prepared | None = None
        self._base: Base | None = None  # set by `adapt`
        self._setups: Sequence[Setup] | None = None  # set by `adapt`, then by `search` at the chosen rates
        self._placed: dict[Devices, Parameters] = {}
        self._faulty: dict[tuple[str, int], Sequence[str]] = {}  # strategy and first seed of a job -> its faults

    def prepare(self) -> Prepared:
        """Reads data and model, checks that all fits together, and claims the output folder; done once.

        Raises:
            UserError: bad input; nothing has been computed or written.
        """
        if self._prepared is None:
            self._prepared = self._to_prepare()
        return self._prepared

    @property
    def config(self) -> Config:
        """All settings, as written to config.yaml."""
        return self._prepared.config if self._prepared else self._config

    @property
    def folder(self) -> OutputFolder:
        """The output folder."""
        return self.prepare().folder

    @property
    def display(self) -> Display:
        """Where progress is shown."""
        return self.prepare().display

    @property
    def interrupt(self) -> Interrupt:
        """The watcher for SIGINT and SIGTERM, which ask the experiment to stop."""
        return self.prepare().interrupt

    @property
    def devices(self) -> Devices:
        """The devices that share every batch."""
        return self.prepare().devices

    @property
    def data(self) -> Data:
        """The tokenized training, validation and test splits."""
        return self.prepare().data

    @property
    def batches(self) -> TrainBatches:
        """The plan of training batches: which texts are in which update of every run."""
        return self.prepare().batches

    @property
    def base(self) -> Base:
        """The body that every run starts from; after `adapt`, the adapted one."""
        return self._base or self.prepare().base

    @property
    def setups(self) -> Sequence[Setup]:
        """The strategies on the model that have runs here, in order; after `search`, at the chosen learning rates."""
        return self._setups or self.prepare().setups

    def run(self) -> Results:
        """Trains all runs that aren't finished, and returns the results. Releases the output folder's lock.

        Raises:
            Stopped: on SIGINT or SIGTERM, after saving; the same call resumes.
            Diverged: numbers of some runs were not finite; all others are finished.
        """
        with self:
            return self._run()

    def adapt(self) -> None:
        """Adapts the body by language modelling where `pretrain.epochs` asks for it; done once.

        Raises:
            Stopped: on a signal, after saving.
        """
        if self._base is not None:
            return
        if on_ray(self.config) and self.config.pretrain.epochs:
            return self.start_from(*adapt_on_ray(self.prepare()))
        with out_of_memory(self.config.train, self.config.pretrain.batch_size):
            end = self.prepare().tokenizer.end_of_text
            task = AdaptationTask.of(self.config, self.base, self.data.train, end, self.devices)
            self.start_from(*adapted(self.config, task, self.display, self.interrupt))

    def start_from(self, base: Base, adaptation: Adaptation | None) -> None:
        """Makes all runs start from a body that was adapted elsewhere; arguments as `adapted` returns them."""
        self._base, self.adaptation, self._setups = base, adaptation, [setup.on(base) for setup in self.setups]

    def search(self) -> None:
        """Chooses each strategy's learning rates by trials, where `search.trials` asks for it and it wasn't done."""
        self.adapt()
        if self.config.search.trials and any(setup.factor is None for setup in self.setups):
            made = self.prepare()
            with self.interrupt, self.display:
                if on_ray(self.config):
                    self._setups = search_on_ray(made, self.base, self.setups)
                else:
                    search = Search.of(made, self.shared_on)
                    self._setups = [search.choose(setup, made.identity(setup, self.base)) for setup in self.setups]

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *_: object) -> None:
        if self._prepared:
            if on_ray(self.config):
                remove_tokens(self.folder.path)
            self._prepared.folder.lock.release()

    def _run(self) -> Results:
        self._prepared = write_data_files(self.prepare())
        self.search()
        made = self.prepare()
        for setup in self.setups:  # finished runs too: their strategy must not have been edited
            for seed in self.seeds:
                made.tidy(setup.name, seed, made.identity(setup, self.base))
        jobs = self._jobs()
        with self.interrupt, self.display:
            if on_ray(self.config):
                train_on_ray(made, jobs, self._finished)
            else:
                self._train_jobs(jobs)
        found = made.team.first_before_others(self._write_results)
        if faults := self._faults:
            raise Diverged(faults, advice(self.config))
        return found

    def _jobs(self) -> list[Job]:
        """The jobs that are left to do, in order; shows them."""
        made, train = self.prepare(), self.config.train
        todo = made.team.of_first({n: to_do(self.folder, n, made.groups[n], train) for n in self.names})
        jobs = [Job(setup, seeds) for setup in self.setups for seeds in todo[setup.name]]
        self.display.plan([job_of(job.name, job.seeds, train.epochs) for job in jobs], at_once=len(made.workers))
        every = sum(len(seeds) for groups in made.groups.values() for seeds in groups)
        if done := every - sum(len(job.seeds) for job in jobs):
            self.display.note(f"{done} of {every} runs were done before")
        return jobs

    def _train_jobs(self, jobs: Sequence[Job]) -> None:
        """Trains the runs of all jobs, as many jobs at once as there are workers."""
        made, setting = self.prepare(), self.config.parallel.compile_ahead

        def ahead(setup: Setup) -> bool:
            return made.compiler.works_ahead(setting) and not made.activations.computes(setup, self.shared)

        programs = Programs(jobs, self.compile, self.shared_on, ahead, self.display)

        def train(job: Job, devices: Devices) -> None:
            self.train(programs.of(job, devices), job.seeds)

        train_on_devices(jobs, train, self._finished, made.workers, self.interrupt)

    def _finished(self, job: Job, faults: Sequence[str]) -> None:
        """Writes the results so far, after a job.

        Args:
            job: the job.
            faults: its runs whose numbers were not finite, and where.
        """
        with self.prepare().writing:
            self._faulty[job.name, job.seeds[0]] = faults
            if self.folder.writes:
                left = going_on(self.folder, self.names, self.seeds, self.config.train)
                drop_weights(self.folder, self.config.checkpoint.keep_best, left)
            self._write_results()

    @property
    def _faults(self) -> list[str]:
        """Runs that stopped because their numbers were not finite, in the order of the jobs."""
        order = sorted(self._faulty, key=lambda job: (self.names.index(job[0]), job[1]))
        return [fault for job in order for fault in self._faulty[job]]

    def compile(self, setup: Setup, group_sizes: Collection[int] = (1,), wait: bool = True) -> Program:
        """Caches the output of a strategy's frozen layers, and compiles its steps; without `wait`, in the background.

        Args:
            setup: the strategy on the model, from `setups`.
            group_sizes: numbers of seeds that will train together, each of which is compiled.

        Raises:
            Stopped: on a signal during language modelling or the caching.
        """
        self.adapt()
        return compile_strategy(self.prepare(), setup.on(self.base), self.shared, group_sizes, wait)

    def train(self, program: Program, seeds: Sequence[int]) -> list[TrainedRun]:
        """Trains and tests runs of one strategy together, resuming from their checkpoints, and writes their results.

        Args:
            program: the compiled strategy, from `compile`.
            seeds: seeds of the runs.

        Raises:
            Stopped: on a signal; the runs are saved.
            Diverged: numbers of some runs were not finite; the others are finished.
        """
        return train_job(self.prepare(), self.base, self.adaptation, program, seeds)

    def _write_results(self) -> Results:
        return self.folder.write_results(self.prepare().header(self.base, self.adaptation, self._faults), self.names)

    def publish(self, figure: Path, answer: Answer | None = None) -> None:
        """Sends the final table, a figure (a PNG file) and the report to the trackers; `answer` where it's known."""
        publish(self.prepare().outputs, figure, self.names, answer)

    @property
    def shared(self) -> Parameters:
        """The body's weights on the devices, placed there once for all runs."""
        return self.shared_on(self.devices)

    def shared_on(self, devices: Devices) -> Parameters:
        """The same on the devices of a worker."""
        if devices not in self._placed:
            self._placed[devices] = devices.body(dict(self.base.parameters))
        return self._placed[devices]
