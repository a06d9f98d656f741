"""What strategies do to a model, as tables: which parameter trains, how fast, and how many numbers that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from flax_agnews.config import Config, ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.models import parameters
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, read_config
from flax_agnews.settings.keywords import check_kind, train_settings
from flax_agnews.strategies import REGISTRY, Entry, Strategy
from flax_agnews.strategies.optim import FROZEN, Plan
from flax_agnews.system.files import is_local
from flax_agnews.system.text import counted
from flax_agnews.training.state import Setup, set_up

_CLASSES = 4  # AG News
_STEPS = 100  # updates an epoch, where no data says how many: rates are read from as many


@dataclass(frozen=True)
class Row:
    """A parameter, or those of several layers that are treated alike.

    Attributes:
        parameter: its path; of several layers `transformer/h/0-5/ln_1/bias`.
        numbers: how many, in all.
        label: the strategy's.
        rate: at its highest; None where the parameter is frozen.
        decay: weight decay, in rates.
        epoch: from which it trains, from 0.
    """

    parameter: str
    numbers: int
    label: str
    rate: float | None = None
    decay: float = 0.0
    epoch: int = 0


@dataclass(frozen=True)
class Description:
    """What a strategy does to a model; printed, a table.

    Attributes:
        name: the strategy's.
        rows: from the embeddings up.
        trained, total: numbers of the model.
    """

    name: str
    rows: Sequence[Row]
    trained: int
    total: int

    @property
    def rates(self) -> list[float]:
        """The different rates, ascending."""
        return sorted({float(f"{row.rate:.3g}") for row in self.rows if row.rate is not None})

    def __rich__(self) -> Table:
        """The table, for `rich`."""
        headers = ["parameter", "numbers", "label", "rate", "decay", "from epoch"]
        headers = headers if any(row.epoch for row in self.rows) else headers[:-1]
        title = f"{self.name}: {self.trained:,} of {self.total:,} numbers train"
        table = _table(title, headers, {"parameter", "label"})
        for row in self.rows:
            trains = ["–"] * 3 if row.rate is None else [short(row.rate), short(row.decay), str(row.epoch + 1)]
            cells = [row.parameter, f"{row.numbers:,}", row.label, *trains][: len(headers)]
            table.add_row(*map(Text, cells), style="dim" if row.rate is None else "")
        return table

    def __str__(self) -> str:
        """The table as plain text."""
        console = Console(width=160, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())


def describe(
    strategy: Strategy | str, model: str | ModelConfig = "gpt2", classes: int = _CLASSES, **train: Any
) -> Description:
    """Which parameter gets which label, rate and decay, and how many numbers train: `print` it.

    Args:
        strategy: one of your own, or the name of a registered one.
        model: a hub id, a directory, or all model settings; of `gpt2` the sizes are known without the hub.
        classes: how many.
        **train: fields of `TrainConfig`, such as weight_decay_mask="matrices".

    Raises:
        UserError: bad input, or a strategy that doesn't fit the model, in one line.
    """
    check_kind("describe(strategy=", strategy, (Strategy, str), "a Strategy, or the name of a registered one")
    check_kind("describe(model=", model, (str, ModelConfig), "the name of a model, or a ModelConfig")
    check_kind("describe(classes=", classes, int, "a whole number, 1 or more")
    if classes < 1:
        raise UserError(f"describe(classes={classes}): must be 1 or more")
    settings = train_settings("describe", train, TrainConfig(), {})
    body = _body(ModelConfig(name=model) if isinstance(model, str) else model)
    if isinstance(strategy, str):
        entry = REGISTRY[strategy]
        strategy = entry.build(entry.settings(), body)
    return _described(strategy, body, classes, settings)


def describe_entry(entry: Entry, config: Config) -> Description:
    """What a registered strategy does to the configured model, with the configured settings."""
    body, settings = _body(config.model), config.strategies.get(entry.name, entry.settings())
    return _described(entry.build(settings, body), body, _CLASSES, config.train)


def strategies_table(config: Config) -> Table:
    """Every registered strategy: what it trains, how many numbers of the chosen model, its rates, its paper."""
    body, train = _body(config.model), config.train
    layers = counted(body.n_layer, "layer")
    title = f"GPT-2 of {layers} x {body.n_embd}, {counted(_CLASSES, 'class')}, {counted(train.epochs, 'epoch')}"
    table = _table(
        title, ["strategy", "trains", "parameters", "rates", "paper"], {"strategy", "trains", "rates", "paper"}
    )
    for entry in REGISTRY:
        told = describe_entry(entry, config)
        rates = [short(rate) for rate in told.rates]
        shown = ", ".join(rates) if len(rates) < 3 else f"{rates[0]} to {rates[-1]}"
        number = entry.paper.removeprefix("https://").replace("arxiv.org/abs/", "arXiv:")
        paper = Text(number, style=f"link {entry.paper}" if entry.paper else "")
        table.add_row(entry.name, entry.summary, f"{told.trained:,}", shown, paper)
    return table


def rates(setup: Setup, train: TrainConfig) -> list[float]:
    """The different rates of a strategy on a model at their highest, ascending; without a factor on them."""
    rows = _rows(setup, _plan(setup.base.config, train))
    return Description(setup.strategy.name, rows, setup.trainable_parameters, setup.total_parameters).rates


def short(number: float) -> str:
    """`5e-5` for 0.00005, from hundredths up as it is."""
    if not 0 < number < 0.01:
        return f"{number:.3g}"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _table(title: str, headers: Sequence[str], left: set[str]) -> Table:
    return Table(
        *(_column(header, header in left) for header in headers),
        title=title,
        title_style="bold",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )


def _column(header: str, left: bool) -> Column:
    return Column(
        header,
        justify="left" if left else "right",
        overflow="fold" if header == "parameter" else "ellipsis",  # a path has no spaces to break at
        no_wrap=header not in ("parameter", "label", "trains"),
    )


def _body(model: ModelConfig) -> GPT2Config:
    """The body's sizes, without its weights."""
    if model.from_config is not None:
        return read_config(model.from_config)
    known = model.name == ModelConfig().name and not is_local(model.name)
    return GPT2Config() if known else read_config(model.name)


def _described(strategy: Strategy, body: GPT2Config, classes: int, train: TrainConfig) -> Description:
    plan = _plan(body, train)
    setup = set_up(strategy, Base("shapes", body, {}), classes, plan, ModelConfig(), max_length=1)
    return Description(strategy.name, _rows(setup, plan), setup.trainable_parameters, setup.total_parameters)


def _plan(body: GPT2Config, train: TrainConfig) -> Plan:
    at_once = replace(train, warmup_fraction=0.0)  # the highest rate is then that of the first update
    return Plan(_STEPS * train.epochs, _STEPS, train.batch_size, body.n_layer, at_once)


def _rows(setup: Setup, plan: Plan) -> list[Row]:
    shapes, begun = setup.frame.shapes, {p: s.first for s in reversed(setup.spans) for p in s.learning}
    rates: dict[str, tuple[float, float]] = {}
    for label, transform in setup.strategy.transforms(plan).items():
        own = [path for path in setup.trainable if setup.labels[path] == label]
        if own and transform != FROZEN:
            rates |= _measured(transform, {path: shapes[path] for path in own}, plan)
    alike: dict[Any, list[str]] = {}
    for path in sorted(shapes, key=_place):
        treated = _layerless(path), setup.labels[path], rates.get(path), begun.get(path, 0)
        alike.setdefault(treated, []).append(path)
    made = []
    for (_, label, how, epoch), group in alike.items():
        rate, decay = how or (None, 0.0)
        numbers = parameters.count({p: shapes[p] for p in group})
        made.append(Row(_joined(group), numbers, str(label), rate, decay, epoch))
    return made


def _measured(
    transform: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]], plan: Plan
) -> dict[str, tuple[float, float]]:
    """Path -> (rate, decay), read from what the transformation does.

    From its first update of ones, with gradients of one and of zero. Where that shows no rate, as in a warm-up, from
    that of the plan's updates whose rate is highest, of ones and of twos with gradients of one.
    """
    zeros, ones, twos = (
        {path: np.full([1] * len(shape), number, np.float32) for path, shape in shapes.items()} for number in range(3)
    )

    def later(state: Any, _: Any) -> tuple[Any, Any]:
        more, _ = transform.update(ones, state, twos)
        pushed, state = transform.update(ones, state, ones)
        return state, {path: (more[path] - 2 * pushed[path], pushed[path] - more[path]) for path in shapes}

    first = transform.init(ones)
    (still, _), (pushed, _) = transform.update(zeros, first, ones), transform.update(ones, first, ones)
    found = {path: (still[path] - pushed[path], -still[path]) for path in shapes}
    if not any(rate.item() for rate, _ in found.values()):
        _, every = jax.lax.scan(later, first, None, plan.steps)
        found = {path: (rate[at], decayed[at]) for path, (rate, decayed) in every.items() for at in [rate.argmax()]}
    exact = {path: (float(rate.item()), float(decayed.item())) for path, (rate, decayed) in found.items()}
    return {path: (rate, decayed / rate if rate else 0.0) for path, (rate, decayed) in exact.items()}


def _place(path: str) -> tuple[Any, ...]:
    """Sorts parameters from the embeddings up, and layers by their number."""
    parts, order = path.split("/"), ["prompt", "wte", "wpe", "h", "ln_f"]
    first = next((i for i, name in enumerate(order) if name in parts[:2]), len(order))
    return first, [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _layerless(path: str) -> str:
    parts = path.split("/")
    return "/".join([*parts[:2], "*", *parts[3:]]) if parts[:2] == ["transformer", "h"] else path


def _joined(paths: Sequence[str]) -> str:
    """Paths that differ by their layer only -> one: `transformer/h/0-5,8/ln_1/bias`."""
    if len(paths) == 1:
        return paths[0]
    layers = [int(path.split("/")[2]) for path in paths]
    runs = [[layer for _, layer in run] for _, run in groupby(enumerate(layers), lambda pair: pair[1] - pair[0])]
    told = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return _layerless(paths[0]).replace("*", told)
