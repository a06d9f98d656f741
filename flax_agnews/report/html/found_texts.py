"""The data checks as the page shows them: in plain words, with examples, and accuracies without their texts."""

from collections.abc import Mapping

import numpy as np

from flax_agnews.data.checks import DataCheck as Check
from flax_agnews.data.checks import Example
from flax_agnews.data.sources import Texts
from flax_agnews.report.answer import Answer
from flax_agnews.report.html.content import DataCheck
from flax_agnews.report.html.wrong_answers import plain
from flax_agnews.runs.checks_file import Check as Key
from flax_agnews.system.text import one_line, shorten

_LONGEST = 240  # characters of a text in a list of examples
_TITLES = {
    "same": "{split} texts that also stand in {other}, unchanged",
    "alike": "{split} texts that also stand in {other}, but for case, spaces and punctuation",
    "contradicts": "{split} texts that have another label in {other}",
    "empty": "{split} texts that are empty",
    "cut": "{split} texts that are cut at the length limit",
}
_NAMES = {"train": "training"}


def data_checks(
    answer: Answer, numbers: Mapping[Key, np.ndarray], texts: Mapping[str, Texts] | None
) -> list[DataCheck]:
    """All checks, those that found something first; none of a folder that an earlier version made.

    Args:
        answer: the answer.
        numbers: check -> numbers of its texts, from `read_checked`.
        texts: name of a split -> its texts, where they may be shown.
    """
    data = answer.results.data
    sizes = {"train": data.train, "validation": data.validation, "test": data.test}
    found = []
    for check in answer.results.checks or ():
        of = numbers.get((check.kind, check.split, check.other))
        found.append(
            DataCheck(
                title=title(check),
                count=check.texts,
                of=sizes[check.split],
                examples=[_example(check, one, texts) for one in check.examples],
                accuracy_without=_accuracy_without(answer, of) if check.split == "test" and of is not None else {},
            )
        )
    return sorted(found, key=lambda check: not check.count)


def title(check: Check) -> str:
    """What was looked for: `Test texts that also stand in train, unchanged`."""
    if check.kind == "contradicts" and check.split == check.other:
        words = "{split} texts of which a copy in {other} has another label"
    else:
        words = _TITLES[check.kind]
    split, other = (_NAMES.get(name or "", name or "") for name in (check.split, check.other))
    text = words.format(split=split, other=other)
    return text[0].upper() + text[1:]


def _example(check: Check, example: Example, texts: Mapping[str, Texts] | None) -> str:
    """Place of a text, that of its partner, and where it may be shown, the text."""
    place = example.where or f"text {example.text}"
    partner = f" (also {example.other})" if example.other else ""
    content = ""
    if texts and check.split in texts:
        content = f": {shorten(one_line(plain(texts[check.split].texts[example.text])), _LONGEST) or '(nothing)'}"
    return f"{place}{partner}{content}"


def _accuracy_without(answer: Answer, numbers: np.ndarray) -> dict[str, float]:
    """Entry -> mean accuracy over its runs on the test texts without those of these numbers."""
    found = {}
    for name in answer.evidence.names:
        wrong = answer.evidence.split(name, "test").wrong
        rest = np.delete(wrong, numbers, axis=1)
        if rest.shape[1]:
            found[name] = float(1 - rest.mean())
    return found
