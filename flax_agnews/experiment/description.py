"""Tables that describe strategies on a model: which parameters train, at which rates, and how many scalars that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from flax_agnews.config import Config, ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.models import parameters
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, read_config
from flax_agnews.settings.keywords import check_kind, train_settings
from flax_agnews.strategies import REGISTRY, Entry, Strategy, StrategyLike, resolve
from flax_agnews.system.model_names import is_local
from flax_agnews.system.text import counted
from flax_agnews.training.adapted_model import AdaptedModel, Trained, adapt_model, trained_parameters
from flax_agnews.training.rates import different, nominal_plan, peak_rates, short

_CLASSES = 4  # AG News


@dataclass(frozen=True)
class Row:
    """A row of a description: one parameter, or the same parameter of several layers that train alike.

    Attributes:
        parameter: path of the parameter; for several layers `transformer/h/0-5/ln_1/bias`.
        numbers: number of scalars, over all of the row's layers.
        label: the strategy's label for the parameter.
        rate: highest learning rate; None where the parameter is frozen.
        decay: weight decay, as a multiple of the learning rate.
        epoch: first epoch in which the parameter trains, counted from 0.
    """

    parameter: str
    numbers: int
    label: str
    rate: float | None = None
    decay: float = 0.0
    epoch: int = 0


@dataclass(frozen=True)
class Description:
    """A table of a model's parameters and how a strategy trains them; `print` shows it.

    Attributes:
        name: name of the strategy.
        rows: all parameters, from the embeddings to the head.
        trained, total: number of scalars that train, and of all scalars of the adapted model.
    """

    name: str
    rows: Sequence[Row]
    trained: int
    total: int

    @property
    def rates(self) -> list[float]:
        """The distinct learning rates, rounded to three digits, ascending."""
        return different(row.rate for row in self.rows if row.rate is not None)

    def __rich__(self) -> Table:
        """The table as a `rich` renderable."""
        headers = ["parameter", "numbers", "label", "rate", "decay", "from epoch"]
        headers = headers if any(row.epoch for row in self.rows) else headers[:-1]
        title = f"{self.name}: {self.trained:,} of {self.total:,} parameters train"
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
    strategy: StrategyLike, model: str | ModelConfig = "gpt2", classes: int = _CLASSES, **train: Any
) -> Description:
    """Describes which label, learning rate and weight decay a strategy gives each parameter; `print` the result.

    No weights are loaded and nothing is trained.

    Args:
        strategy: name of a registered strategy ("lora"), an entry with settings (`lora(rank=4)`), or your own
            `Strategy`.
        model: hub id, directory, or all model settings. The sizes of `gpt2` are known without the hub.
        classes: number of classes.
        **train: fields of `TrainConfig`, such as weight_decay_mask="matrices".

    Raises:
        UserError: bad input, or a strategy that doesn't fit the model.
    """
    chosen = resolve(strategy)
    check_kind("describe(model=", model, (str, ModelConfig), "the name of a model, or a ModelConfig")
    check_kind("describe(classes=", classes, int, "a whole number, 1 or more")
    if classes < 1:
        raise UserError(f"describe(classes={classes}): must be 1 or more")
    settings = train_settings("describe", train, TrainConfig(), {}, ("strategy", "model", "classes"))
    body = _body(ModelConfig(name=model) if isinstance(model, str) else model)
    if isinstance(chosen, Entry):
        chosen = chosen.build(chosen.settings_given or chosen.settings(), body)
    return _described(chosen, body, classes, settings)


def describe_entry(entry: Entry, config: Config) -> Description:
    """Describes a registered strategy on the configured model, with the configured settings."""
    body, settings = _body(config.model), config.strategies.get(entry.name, entry.settings())
    return _described(entry.build(settings, body), body, _CLASSES, config.train)


def strategies_table(config: Config) -> Table:
    """A table of all registered strategies: trained parameters and their number, learning rates, and paper."""
    body, train = _body(config.model), config.train
    layers = counted(body.n_layer, "layer")
    title = f"GPT-2 of {layers} x {body.n_embd}, {counted(_CLASSES, 'class')}, {counted(train.epochs, 'epoch')}"
    table = _table(
        title, ["strategy", "trains", "parameters", "rates", "paper"], {"strategy", "trains", "rates", "paper"}
    )
    for entry in REGISTRY:
        described = describe_entry(entry, config)
        rates = [short(rate) for rate in described.rates]
        shown = ", ".join(rates) if len(rates) < 3 else f"{rates[0]} to {rates[-1]}"
        number = entry.paper.removeprefix("https://").replace("arxiv.org/abs/", "arXiv:")
        paper = Text(number, style=f"link {entry.paper}" if entry.paper else "")
        table.add_row(entry.name, entry.summary, f"{described.trained:,}", shown, paper)
    return table


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
    """Reads a body's configuration, without its weights."""
    if model.from_config is not None:
        return read_config(model.from_config)
    known = model.name == ModelConfig().name and not is_local(model.name)
    return GPT2Config() if known else read_config(model.name)


def _described(strategy: Strategy, body: GPT2Config, classes: int, train: TrainConfig) -> Description:
    """Describes a strategy on a body, from the body's sizes alone."""
    model, plan = (
        adapt_model(strategy, Base("shapes", body, {}), classes, ModelConfig()),
        nominal_plan(body.n_layer, train),
    )
    trained = trained_parameters(model, plan)
    numbers = parameters.count_numbers({path: model.shapes[path] for path in trained.paths})
    return Description(strategy.name, _rows(model, trained, peak_rates(model, plan)), numbers, model.total_parameters)


def _rows(model: AdaptedModel, trained: Trained, rates: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The table's rows: layers whose parameters train alike share one."""
    begun = {path: first for first, paths in reversed(trained.stages) for path in paths}
    shapes = model.shapes
    alike: dict[Any, list[str]] = {}
    for path in sorted(shapes, key=_place):
        treated = _layerless(path), model.labels[path], rates.get(path), begun.get(path, 0)
        alike.setdefault(treated, []).append(path)
    made = []
    for (_, label, how, epoch), group in alike.items():
        rate, decay = how or (None, 0.0)
        numbers = parameters.count_numbers({p: shapes[p] for p in group})
        made.append(Row(_joined(group), numbers, str(label), rate, decay, epoch))
    return made


def _place(path: str) -> tuple[Any, ...]:
    """Sort key of a parameter: from the embeddings to the head, layers by number."""
    parts, order = path.split("/"), ["prompt", "wte", "wpe", "h", "ln_f"]
    first = next((i for i, name in enumerate(order) if name in parts[:2]), len(order))
    return first, [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _layerless(path: str) -> str:
    """A path with `*` instead of its layer's number."""
    parts = path.split("/")
    return "/".join([*parts[:2], "*", *parts[3:]]) if parts[:2] == ["transformer", "h"] else path


def _joined(paths: Sequence[str]) -> str:
    """Joins paths that differ only by layer: `transformer/h/0-5,8/ln_1/bias`."""
    if len(paths) == 1:
        return paths[0]
    layers = [int(path.split("/")[2]) for path in paths]
    runs = [[layer for _, layer in run] for _, run in groupby(enumerate(layers), lambda pair: pair[1] - pair[0])]
    numbers = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return _layerless(paths[0]).replace("*", numbers)
