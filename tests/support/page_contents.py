"""Made-up content of the page `report.html`: an experiment's answers are simulated, its scores follow from them."""

import itertools

import numpy as np

from flax_agnews.report.html.content import (
    Bin,
    Calibration,
    ClassScores,
    Confusion,
    Costs,
    Curve,
    DataCheck,
    Difference,
    Entry,
    Estimate,
    PageContent,
    RateSearch,
    RateTrial,
    Text,
)

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
STRATEGIES = (
    *("full", "llrd", "lora", "adapter", "partial", "lora_prompt", "gradual"),
    *("prefix", "ia3", "bitfit", "norms", "prompt", "head"),
)
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"> <!-- ${7*7} {{7*7}} &amp; \u2028"
TALK = "oil prices rose as the league of nations said its new chip will win a final match in court"


def _score(value: float, noise: float = 0.006) -> Estimate:
    return Estimate(value, max(0.0, value - noise), min(1.0, value + noise))


def simulated(strategies: int, seeds: int, texts: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [texts], and answers [strategies, seeds, texts]; some texts are hard for all."""
    rng = np.random.default_rng(18)
    labels = rng.integers(0, len(CLASSES), texts)
    hard = rng.normal(0, 1.3, texts)
    skill = np.linspace(2.6, 1.7, strategies)
    answers = np.empty((strategies, seeds, texts), np.int64)
    confused_with = rng.integers(1, len(CLASSES), texts)
    for s, k in itertools.product(range(strategies), range(seeds)):
        wrong = hard + rng.normal(0, 0.5, texts) > skill[s]
        answers[s, k] = np.where(wrong, (labels + confused_with) % len(CLASSES), labels)
    return labels, answers


def _curves(name: str, seeds: int, epochs: int, final: float) -> list[Curve]:
    rng = np.random.default_rng(len(name))
    found = []
    for k in range(seeds):
        rise = 1 - np.exp(-np.arange(1, epochs + 1) * 0.8)
        valid = final * (0.75 + 0.25 * rise) + rng.normal(0, 0.004, epochs)
        train = np.minimum(valid + 0.01 * np.arange(epochs), 1)
        found.append(
            Curve(
                strategy=name,
                seed=42 + k,
                train_loss=(1.2 - train).tolist(),
                train_accuracy=train.tolist(),
                validation_loss=(1.25 - valid).tolist(),
                validation_accuracy=valid.tolist(),
                validation_f1=(valid - 0.01).tolist(),
            )
        )
    return found


def _confusion(name: str, labels: np.ndarray, answers: np.ndarray) -> Confusion:
    """Counts of one strategy's answers [seeds, texts], and the texts of every wrong cell."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), int)
    for answer in answers:
        np.add.at(counts, (labels, answer), 1)
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for text in np.flatnonzero((answers != labels).any(axis=0)):
        for label, seeds in enumerate(np.bincount(answers[:, text], minlength=len(CLASSES))):
            if seeds and label != labels[text]:
                cells.setdefault((int(labels[text]), label), []).append((int(text), int(seeds)))
    ordered = {cell: sorted(found, key=lambda pair: -pair[1]) for cell, found in cells.items()}
    return Confusion(name, len(answers), counts.tolist(), ordered)


def _costs(place: int) -> Costs:
    return Costs(
        trained=124e6 / 4**place,
        seconds=900 / (1 + place / 3),
        tokens=4.1e6 if place % 3 else 5.2e6,
        tokens_per_second=4500 * (1 + place / 3),
        seconds_to_95=300 / (1 + place / 5),
        compile_seconds=12.5 + place,
        cache_seconds=None if place < 6 else 20.0,
        peak_bytes=(6 - place / 3) * 1e9,
        optimizer_bytes=992e6 / 4**place,
        flop=3e15 / (1 + place / 4),
        kept_bytes=496e6 / 4**place,
    )


def _differences(names: list[str], accuracy: list[float], seeds: int) -> list[Difference]:
    pairs = list(itertools.combinations(range(len(names)), 2))
    p = {pair: min(1.0, np.exp(-900 * (accuracy[pair[0]] - accuracy[pair[1]]) ** 1.2)) for pair in pairs}
    return [
        Difference(names[a], names[b], _score(accuracy[a] - accuracy[b], 0.004), p[a, b] if seeds >= 5 else None)
        for a, b in pairs
    ]


def _calibration(name: str, accuracy: float) -> Calibration:
    edges = np.linspace(0.3, 0.98, 10)
    bins = [Bin(float(c), float(np.clip(c - 0.06 * (c > 0.6), 0, 1)), int(30 + 900 * c**6)) for c in edges]
    return Calibration(name, Estimate(0.04 + (1 - accuracy) / 4, 0.03, 0.09), bins)


def _search(name: str) -> RateSearch:
    factors = [0.1, 0.316, 1.0, 3.16, 10.0]
    trials = [RateTrial(f, None if f > 9 else 0.8 - 0.1 * np.log10(f) ** 2 + len(name) / 100) for f in factors]
    return RateSearch(name, trials, 1.0, "0.0001", "highest" if name == "head" else "")


def content(
    strategies: int = 13, seeds: int = 10, texts: int = 7600, epochs: int = 6, extra: str = "", show: bool = True
) -> PageContent:
    """The page's content for so many strategies, seeds and test texts; `extra` stands in all texts and names."""
    names = [name + extra for name in STRATEGIES[:strategies]]
    classes = [name + extra for name in CLASSES]
    labels, answers = simulated(strategies, seeds, texts)
    accuracy = (answers == labels).mean(axis=(1, 2)).tolist()
    rng = np.random.default_rng(1)
    wrong = (answers != labels).sum(axis=1)  # [strategies, texts], in seeds
    opened = np.flatnonzero(wrong.sum(axis=0))
    sentences = [" ".join(rng.choice(TALK.split(), rng.integers(20, 60))) + extra for _ in range(len(opened))]
    by_class = {t: np.apply_along_axis(np.bincount, 1, answers[:, :, t], minlength=4).tolist() for t in opened}
    answered = [dict(zip(names, by_class[t], strict=True)) for t in opened]
    kept = {
        int(t): Text(sentences[k], int(labels[t]), f"test.csv{extra}, row {t + 1}", answered[k])
        for k, t in enumerate(opened)
    }
    majority = wrong * 2 > seeds
    ranks = [1, 1, 1, 4, 4, 6, 6, 6, 9, 10, 11, 12, 13]
    entries = [
        Entry(
            name=name,
            rank=ranks[k],
            seeds=seeds,
            accuracy=_score(accuracy[k]),
            f1=_score(accuracy[k] - 0.004),
            loss=Estimate(1.3 - accuracy[k], 1.27 - accuracy[k], 1.34 - accuracy[k]),
            costs=_costs(k),
            note="2 of 12 seeds are unfinished." if k == 2 else "",
        )
        for k, name in enumerate(names)
    ]
    references = [
        Entry(name="tfidf" + extra, kind="reference", rank=None, seeds=1, accuracy=_score(0.889), f1=_score(0.888),
              costs=Costs(seconds=4.2)),
        Entry(name="majority" + extra, kind="reference", rank=None, seeds=1, accuracy=_score(0.25), f1=_score(0.1)),
    ]  # fmt: skip
    return PageContent(
        title=f"{strategies} strategies on AG News{extra}",
        facts=[f"{texts:,} test texts", "gpt2, 12 x 768, 124 M parameters", f"{seeds} seeds" + extra],
        sentences=(
            f"{' and '.join(names[:3])} can't be told apart: {100 * accuracy[0]:.1f} % (95 % interval "
            f"{100 * accuracy[0] - 0.6:.1f} to {100 * accuracy[0] + 0.6:.1f} %) of the test texts are right.",
            "The cheapest of them trains 0.2 % of the numbers, and beats TF-IDF by 5.1 points (4.2 to 6.0).",
        ),
        notes=["Strategies were chosen on validation only." + extra],
        classes=classes,
        test_texts=texts,
        entries=entries + references,
        curves=[curve for k, name in enumerate(names) for curve in _curves(name, seeds, epochs, accuracy[k])],
        differences=_differences([*names, "tfidf" + extra], [*accuracy, 0.889], seeds),
        confusions=[_confusion(name, labels, answers[k]) for k, name in enumerate(names)],
        texts=kept if show else None,
        texts_note="" if show else "The texts were left out.",
        all_wrong=np.flatnonzero(majority.all(axis=0)).tolist(),
        disputed=np.flatnonzero(majority.any(axis=0) & ~majority.all(axis=0)).tolist(),
        calibration=[_calibration(name, accuracy[k]) for k, name in enumerate(names)],
        search=[_search(name) for name in names],
        class_scores=[
            ClassScores(name, c, _score(accuracy[k] - c / 90, 0.01), _score(accuracy[k] - c / 60, 0.012),
                        _score(accuracy[k] - c / 70, 0.01))
            for k, name in enumerate(names) for c in range(len(CLASSES))
        ],
        data_checks=[
            DataCheck("test texts that also stand in train, exactly", 12, texts, [f"row 7: {extra} oil prices"],
                      dict(zip(names, accuracy, strict=True))),
            DataCheck("duplicated texts with different labels", 0, 120_000),
        ],
        settings={"train": {"epochs": epochs, "batch": 16}, "model": {"name": "gpt2" + extra}},
        environment={"jax": "0.10.2", "machine": "2 cores" + extra},
        commands=["python -m flax_agnews.main --config agnews --output results" + extra],
        made="flax_agnews 0.1.0",
    )  # fmt: skip
