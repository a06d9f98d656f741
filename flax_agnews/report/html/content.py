"""What the page `report.html` shows. Scores are shares (0.93, not 93), texts are plain, not HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

MOST_CLASSES = 12
"""Of more classes, only those with the lowest scores are drawn, and confusion matrices become lists."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the interval is None where it can't be given."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a strategy costs, as a mean over its runs; None where not measured.

    Attributes:
        trained: numbers that train.
        seconds: training time, without compiling and filling of caches.
        tokens: real tokens that were trained on, all epochs together.
        tokens_per_second: real tokens per second of training.
        seconds_to_95: seconds to 95 % of the final validation score.
        compile_seconds, cache_seconds: time to compile, and to fill caches.
        peak_bytes, optimizer_bytes: peak memory, and memory of the optimizer's state.
        flop: floating-point operations of the training.
        kept_bytes: size of what must be kept for each task.
    """

    trained: float | None = None
    seconds: float | None = None
    tokens: float | None = None
    tokens_per_second: float | None = None
    seconds_to_95: float | None = None
    compile_seconds: float | None = None
    cache_seconds: float | None = None
    peak_bytes: float | None = None
    optimizer_bytes: float | None = None
    flop: float | None = None
    kept_bytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A strategy, or a reference that it is compared with; a row of the leaderboard.

    Attributes:
        name: shown, and the key in all other parts.
        kind: references (TF-IDF, majority class) are drawn in grey, and have no curves.
        rank: equal for those that can't be told apart; None where no rank is given.
        seeds: number of finished runs; 1 for a reference.
        accuracy, f1, loss: on the test split, with intervals; f1 is macro-F1, loss is in nats a text.
        costs: see `Costs`.
        note: a sentence about this row, such as "2 of 5 seeds are unfinished"; empty for none.
    """

    name: str
    kind: Literal["strategy", "reference"] = "strategy"
    rank: int | None
    seeds: int
    accuracy: Estimate
    f1: Estimate | None = None
    loss: Estimate | None = None
    costs: Costs = field(default_factory=Costs)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A run by epoch, the first is epoch 1; None is a number that is unknown or not finite."""

    strategy: str
    seed: int
    train_loss: Sequence[float | None] = ()
    train_accuracy: Sequence[float | None] = ()
    train_f1: Sequence[float | None] = ()
    validation_loss: Sequence[float | None] = ()
    validation_accuracy: Sequence[float | None] = ()
    validation_f1: Sequence[float | None] = ()


@dataclass(frozen=True)
class Difference:
    """Accuracy of `a` minus accuracy of `b`, paired by seed and text, with its interval.

    `p_holm` is the permutation test's p, corrected over all pairs by Holm; None where the seeds can't carry one.
    Each pair is given once, in either order.
    """

    a: str
    b: str
    difference: Estimate
    p_holm: float | None = None


@dataclass(frozen=True)
class Confusion:
    """Which classes a strategy takes for which, all its seeds together.

    Attributes:
        strategy: its name.
        seeds: number of seeds that are added up.
        counts: [true class][predicted class], answers of all seeds.
        texts: (true class, predicted class) -> (number of the test text, number of seeds that answered so), the texts
            of most seeds first. Only for wrong answers; empty where texts are not to be shown.
    """

    strategy: str
    seeds: int
    counts: Sequence[Sequence[int]]
    texts: Mapping[tuple[int, int], Sequence[tuple[int, int]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A test text that can be opened.

    Attributes:
        content: the text itself.
        label: number of its class.
        origin: file and row that it came from, `test.csv row 12`.
        answers: strategy -> number of seeds for each class.
    """

    content: str
    label: int
    origin: str = ""
    answers: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: their mean confidence, the share that is right, their number."""

    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """A strategy's reliability: bins of confidence, all seeds together, and the expected calibration error."""

    strategy: str
    error: Estimate
    bins: Sequence[Bin]


@dataclass(frozen=True)
class RateTrial:
    """A trial of the search: the factor of all rates, and the validation accuracy (None: not finite)."""

    factor: float
    accuracy: float | None


@dataclass(frozen=True)
class RateSearch:
    """A strategy's learning-rate search: trials, the chosen factor, rates, and where it lies at an edge, which."""

    strategy: str
    trials: Sequence[RateTrial]
    chosen: float
    rates: str = ""
    edge: str = ""


@dataclass(frozen=True)
class ClassScores:
    """A strategy's scores on the texts of one class (its number)."""

    strategy: str
    label: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class DataCheck:
    """Something about the data that flatters or harms scores.

    Attributes:
        title: what was looked for, "test texts that also stand in train, exactly".
        count, of: how many were found, of how many.
        examples: the first ones, as plain texts; empty where texts are not to be shown.
        accuracy_without: entry -> accuracy on the test texts without them, beside the whole; empty where not given.
    """

    title: str
    count: int
    of: int
    examples: Sequence[str] = ()
    accuracy_without: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """All that the page shows; empty parts leave their section out. All names are names of entries.

    Attributes:
        title: heading of the page, "13 strategies on AG News".
        facts: short facts below the heading: data, model, seeds.
        sentences: the answer in two sentences, with its uncertainty.
        notes: further paragraphs below the answer: what the seeds can't carry, selection, unfinished runs.
        classes: names of the classes.
        test_texts: number of texts in the test split.
        entries: rows of the leaderboard, in its order.
        curves, differences, confusions, calibration, search, class_scores, data_checks: see there.
        texts: number of a test text -> the text. Those which are asked for by confusions, `all_wrong` and `disputed`
            are kept, most wrong answers first, as far as the page's size allows. None where none can be opened.
        texts_note: why no texts can be opened; empty where they can.
        all_wrong: numbers of the test texts that all strategies get wrong.
        disputed: numbers of those on which strategies disagree, the most disputed first.
        settings, environment: nested settings, and versions and machine.
        commands: how to reproduce, shell commands.
        made: program and version, "flax_agnews 0.1.0".
    """

    title: str
    facts: Sequence[str] = ()
    sentences: tuple[str, str]
    notes: Sequence[str] = ()
    classes: Sequence[str]
    test_texts: int
    entries: Sequence[Entry]
    curves: Sequence[Curve] = ()
    differences: Sequence[Difference] = ()
    confusions: Sequence[Confusion] = ()
    texts: Mapping[int, Text] | None = None
    texts_note: str = ""
    all_wrong: Sequence[int] = ()
    disputed: Sequence[int] = ()
    calibration: Sequence[Calibration] = ()
    search: Sequence[RateSearch] = ()
    class_scores: Sequence[ClassScores] = ()
    data_checks: Sequence[DataCheck] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    commands: Sequence[str] = ()
    made: str = "flax_agnews"
