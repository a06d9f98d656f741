"""Shows a dry run in the terminal: a table of strategies, where each run goes, the total, and what was assumed."""

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from flax_agnews.experiment.dry_run import DryRun
from flax_agnews.experiment.planning import Slot
from flax_agnews.system.text import bytes_text, counted, seconds_text, share_text, short_count
from flax_agnews.training.device_table import KINDS

_DEVICES = 16  # most that are listed one by one


def shown(plan: DryRun) -> list[RenderableType]:
    """The lines and the table, for `rich`."""
    return [_table(plan), "", *map(Text, [*_where(plan), "", *_total(plan), "", "assumed:", *_assumptions(plan)])]


def _table(plan: DryRun) -> Table:
    heads = ["strategy", "done", "to do", "steps", "tokens", "padding", "memory", "prepare", "train, test"]
    columns = [Column(head, justify="right" if number else "left", no_wrap=True) for number, head in enumerate(heads)]
    table = Table(*columns, box=None, padding=(0, 1, 0, 0))
    for row in plan.rows:
        numbers = [str(row.done), str(row.runs), f"{row.steps:,}", short_count(row.tokens), share_text(1, 1)]
        numbers[-1] = share_text(round(1e6 * row.padding), 1_000_000)
        times = row.cost.compiling + row.cost.caching, sum(row.cost.groups)
        table.add_row(row.strategy, *numbers, bytes_text(row.memory.total), *map(seconds_text, times))
    return table


def _where(plan: DryRun) -> list[str]:
    """Where runs go: a line for each device, or one for all."""
    devices = f"{plan.devices} x {plan.kind.upper()}"
    if plan.devices == 1:
        return [f"{devices}: runs one after the other, in this order"]
    if not plan.apart:
        return [f"{devices}: every batch over all of them, runs one after the other, in this order"]
    lines = [f"{devices}: one run on each, the next one on the first device that is free"]
    for device in range(min(plan.devices, _DEVICES)):
        mine = [slot for slot in plan.slots if slot.device == device]
        lines += [f"  device {device}: {' · '.join(map(_named, mine)) or 'nothing'}"]
    return lines


def _named(slot: Slot) -> str:
    return f"{slot.job.strategy} {'+'.join(map(str, slot.job.seeds))}"


def _total(plan: DryRun) -> list[str]:
    runs, steps = sum(row.runs for row in plan.rows), sum(row.steps for row in plan.rows)
    largest = max((row.memory.total for row in plan.rows if row.runs), default=0)
    has = f" of {bytes_text(plan.limit)}" if plan.limit else ""
    sizes = f"up to {bytes_text(largest)}{has} on a device, up to {bytes_text(plan.disk)} on disk"
    work = f"{counted(runs, 'run')}, {counted(steps, 'step')}, {short_count(sum(r.tokens for r in plan.rows))} tokens"
    before = [("reading", plan.starting), ("language modelling", plan.adapting), ("rates", plan.searching)]
    parts = [f"{name} {seconds_text(seconds)}" for name, seconds in before if seconds]
    parts += [f"runs {seconds_text(plan.seconds - sum(seconds for _, seconds in before))}"]
    return [f"total: {work}; {sizes}", f"time: about {seconds_text(plan.seconds)} ({', '.join(parts)})"]


def _assumptions(plan: DryRun) -> list[str]:
    """One line for each assumption on which the numbers rest."""
    train, found = plan.config.train, list[str]()
    compiled = sum(row.cost.compiled_now for row in plan.rows)
    if plan.config.plan.device:
        kind = KINDS[plan.config.plan.device]
        found += [f"speed of {plan.kind.upper()}: {kind.source}; small batches are slower"]
        found += ["compiling as measured on an H200, nothing compiled or cached there before; reading as here"]
    else:
        found += ["steps and evaluation as fast as the few that were timed now, on an otherwise idle machine"]
        kept = "is kept: the runs read it (--parallel.keep_compilations)"
        also = kept if plan.config.parallel.keep_compilations else "is done again by the runs"
        found += [f"compiling took {seconds_text(compiled)} now and {also}"]
    if not plan.apart and plan.config.plan.devices and plan.devices > 1:
        found += [f"{plan.devices} devices share a batch without loss of speed"]
    if plan.apart and plan.devices > 1:
        alone = "share this machine's cores, and are together as fast as one" if plan.kind == "cpu" else "don't slow"
        found += [f"devices {alone}{'' if plan.kind == 'cpu' else ' each other; the host feeds all of them'}"]
    if train.early_stopping:
        found += ["no run ends early"]
    if any(group.begun for row in plan.rows for group in row.groups):
        found += ["interrupted runs go on from their last checkpoint"]
    if plan.adapting:
        found += ["language modelling by six FLOP a parameter and token, as fast as the fastest strategy"]
    if plan.searching:
        found += [f"each search for rates takes its whole budget ({plan.config.search.budget:g} runs)"]
    found += ["memory by a formula (within a quarter of the compiler's on a CPU); the body is counted in each run"]
    found += ["not counted: starting Python, waiting for disks, checks of the texts, the report"]
    return [f"- {line}" for line in found]
