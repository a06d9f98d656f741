"""What an experiment writes about its texts before its first run: the texts, and cheap references on the same rows.

It is done first, so that a report has it however early the experiment stops, and so that it never takes a core from
training. Each file is written once for an output folder; references are shared by all experiments on the same texts.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flax_agnews.data.checks import DataCheck, Finding, check_texts, cut_texts
from flax_agnews.data.sources import Corpus
from flax_agnews.errors import UserError
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.reference import Hashes, NoReference, key_of, majority, tfidf
from flax_agnews.runs.checks_file import write_checked
from flax_agnews.runs.references import (
    MAJORITY,
    TFIDF,
    Reference,
    folder_of_reference,
    read_reference,
    write_reference,
)
from flax_agnews.runs.sealed import whole_folder
from flax_agnews.runs.texts_file import remove_texts, write_texts
from flax_agnews.system.caches import folder_of, make_room, mark_used
from flax_agnews.system.interrupt import Stopped
from flax_agnews.system.text import counted, words_duration

_ROOM = 100_000_000  # bytes; predictions of 100,000 texts and 100 classes have 40 million


def write_data_files(made: Prepared) -> Prepared:
    """Writes what is known of the texts into the output folder; returns the same without the texts, to free memory.

    Raises:
        Stopped: on a signal; what was written stays.
    """
    if made.corpus is None:
        return made
    findings = _findings(made, made.corpus)
    if said := _said([finding.check for finding in findings]):
        made.display.say("checks", said)
    if made.folder.writes:
        write_checked(made.folder.path, findings)
        _write_texts(made, made.corpus)
        if made.config.report.reference != "none":
            with made.interrupt, made.display:
                _write_references(made, made.corpus)
    made.team.meet()
    return replace(made, corpus=None, checks=[finding.check for finding in findings])


def _findings(made: Prepared, corpus: Corpus) -> list[Finding]:
    texts = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    tokens = {name: getattr(made.data, name).tokens for name in texts}
    most = made.config.data.max_length
    cut = {name: cut_texts(made.tokenizer, split.texts, tokens[name], most) for name, split in texts.items()}
    return check_texts(texts, cut)


def _said(checks: Sequence[DataCheck]) -> str:
    """A line on texts that flatter a score or can't be learned, if there are any; the line on data has cut texts."""
    words = {
        "alike": "{} of {} also in {}",
        "contradicts": "{} of {} with another label in {}",
        "empty": "{} of {} empty",
    }
    said = [
        words[check.kind].format(counted(check.texts, "text"), check.split, check.other)
        for check in checks
        if check.texts and check.kind in words
    ]
    return " · ".join(said)


def _write_texts(made: Prepared, corpus: Corpus) -> None:
    splits = {"validation": corpus.validation, "test": corpus.test}
    if made.config.report.texts == "none":
        remove_texts(made.folder.path)
    else:
        hashes = {"validation": made.data.validation.hash, "test": made.data.test.hash}
        write_texts(made.folder.path, splits, hashes)


def _write_references(made: Prepared, corpus: Corpus) -> None:
    data, display, output = made.data, made.display, made.folder.path
    hashes = Hashes.of(data)
    named = corpus.classes, hashes

    def stop() -> bool:
        return bool(made.interrupt.asked)

    try:
        keep(output, MAJORITY, key_of(MAJORITY, *named), lambda: majority(corpus, hashes))
        with display.busy("computing the reference, TF-IDF with logistic regression"):
            found = keep(output, TFIDF, key_of(TFIDF, *named), lambda: tfidf(corpus, hashes, stop))
    except NoReference as why:
        display.say("reference", f"no TF-IDF with logistic regression: {why}")
        return
    if found is None:
        raise Stopped("stopped before the first run", made.interrupt.asked)
    accuracy = (found.predictions.splits["test"].answers == data.test.labels).mean()
    how = f"C {found.settings['C']:g}, chosen on validation · {words_duration(found.seconds)}"
    display.say("reference", f"TF-IDF with logistic regression: {accuracy:.3f} of the test texts right · {how}")


def keep(output: Path, name: str, key: str, compute: Callable[[], Reference | None]) -> Reference | None:
    """The reference in the output folder, or from the cache, or computed now; written to both.

    Args:
        output: the output folder.
        name: name of the reference.
        key: hash of all that decides its predictions.
        compute: makes it; None after a signal.
    """
    place = folder_of_reference(output, name)
    if found := _valid(place, key):
        return found
    cached = folder_of("references") / key
    if found := _valid(cached, key):
        mark_used(cached)
    elif (found := compute()) is None:
        return None
    elif name != MAJORITY and make_room(_ROOM):
        with suppress(UserError):  # it can't be written: computed again
            _write(cached, found)
    try:
        _write(place, found)
    except UserError:  # a task on another node may have written it meanwhile
        if not _valid(place, key):
            raise
    return found


def _valid(folder: Path, key: str) -> Reference | None:
    """The reference in a folder; None if it is missing, damaged, or of other texts or an earlier version."""
    with suppress(UserError):
        found = read_reference(folder)
        return found if found and found.key == key else None
    return None


def _write(folder: Path, reference: Reference) -> None:
    with whole_folder(folder) as draft:
        write_reference(draft, reference)
