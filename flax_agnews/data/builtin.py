"""Generates the builtin corpus: invented news stories on four topics, the same on every machine, without a network.

Each sentence of a story is about its topic or, seldom, about another one, and mixes words of that topic with
words that all topics share; a few labels are wrong. Therefore no single word decides the class, and no classifier
reaches an accuracy of 100 %.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from flax_agnews.config import DataConfig
from flax_agnews.data import builtin_words as words
from flax_agnews.data.rows import Found, Rows
from flax_agnews.data.splits import refuse_names

NAME = "builtin"
TRAIN_ROWS, TEST_ROWS = 4400, 1000
NOISE = 0.04  # share of labels that are some other class
_SEED = 20240607
_LONGEST = 230  # characters of a story
_OFF_TOPIC = 0.06  # share of sentences about the story's other topic
_OFF_CONTEXT = 0.25  # share of closing phrases about any topic
_SHARED_SUBJECT, _SHARED_ACTION, _SHARED_CONTEXT = 0.35, 0.3, 0.45
_EVENT = 0.25  # share of sentences about an event instead of people
# Forms of a story: (cumulative share, whether it has a headline, number of sentences).
_SHAPES = (
    (0.08, True, 0),
    (0.14, False, 1),
    (0.36, True, 1),
    (0.48, False, 2),
    (0.92, True, 2),
    (1.0, True, 3),
)


def claims(source: str) -> bool:
    """Whether `data.source` names this corpus."""
    return source == NAME


def load(config: DataConfig) -> Found:
    """Generates `TRAIN_ROWS` training and `TEST_ROWS` test rows, all different; there is no validation split."""
    refuse_names(config, f"{NAME} is none")
    texts, labels = _corpus()
    train, test = slice(TRAIN_ROWS), slice(TRAIN_ROWS, None)
    splits = {
        split: Rows(f"{NAME} {split}", texts[rows], labels[rows], range(1, len(texts[rows]) + 1))
        for split, rows in (("train", train), ("test", test))
    }
    return Found(splits, [topic.name for topic in words.TOPICS])


def generate(rows: int, noise: float = NOISE, seed: int = _SEED) -> tuple[list[str], list[int]]:
    """Generates `rows` different texts with labels; a share `noise` of the labels, chosen at random, is wrong."""
    writer = _Writer(np.random.default_rng(seed))
    stories: dict[str, int] = {}  # text -> label, in order of writing
    while len(stories) < rows:
        topic, wrong, other = writer.below(4), writer.chance(noise), 1 + writer.below(3)
        story = writer.story(topic)
        if story not in stories and len(story) <= _LONGEST:
            stories[story] = (topic + other) % 4 if wrong else topic
    return list(stories), list(stories.values())


@cache  # a notebook or a program that trains several times loads it each time
def _corpus() -> tuple[list[str], list[int]]:
    """The texts and labels of the corpus, which nobody changes: splits are copies of parts."""
    return generate(TRAIN_ROWS + TEST_ROWS)


@dataclass(frozen=True)
class _Sentence:
    """The parts of a sentence, all but the verb in their final form; `context` may be empty."""

    subject: str
    verb: str
    object: str
    context: str


class _Writer:
    """Generates stories, using only the method `random()`, whose numbers are least likely to change in later NumPy."""

    def __init__(self, generator: np.random.Generator):
        self._random: Callable[[], float] = generator.random

    def below(self, count: int) -> int:
        return int(self._random() * count)

    def chance(self, share: float) -> bool:
        return self._random() < share

    def pick(self, phrases: str) -> str:
        """Draws one of the phrases and fills its placeholders."""
        options = _phrases(phrases)
        return self._filled(options[self.below(len(options))])

    def story(self, topic: int) -> str:
        """Generates a story: headline, sentences, or both, on one line separated by spaces, as in AG News."""
        other = (topic + 1 + self.below(3)) % 4
        draw = self._random()
        headline, sentences = next((head, count) for share, head, count in _SHAPES if draw < share)
        kinds = [other if self.chance(_OFF_TOPIC) else topic for _ in range(headline + sentences)]
        about = [words.TOPICS[kind] for kind in kinds]
        lines = [self._headline(about[0])] if headline else []
        lines += [self._body(kind) for kind in about[len(lines) :]]
        if lines[headline:] and self.chance(0.3):
            lines[headline] = f"{self.pick(words.PLACES).upper()} - {lines[headline]}"
        return " ".join(lines)

    def _headline(self, topic: words.Topic) -> str:
        parts = self._sentence(topic)
        subject, thing = _without_article(parts.subject), _without_article(parts.object)
        verb = _base(parts.verb) if _is_plural(subject) else _third_person(parts.verb)
        if self.chance(0.2):
            verb = f"to {_base(parts.verb)}"
        return _capital(f"{subject} {verb} {thing} {parts.context}".strip())

    def _body(self, topic: words.Topic) -> str:
        parts = self._sentence(topic)
        form = self.below(4)
        if form == 0:
            source = self.pick(words.SHARED.sources if self.chance(0.5) else topic.sources)
            would = f"{parts.subject} would {_base(parts.verb)} {parts.object} {parts.context}"
            return _capital(f"{source} said {would}".strip() + ".")
        statement = f"{parts.subject} {_past(parts.verb)} {parts.object}"
        if form == 1 and parts.context:
            return _capital(f"{parts.context}, {statement}.")
        return _capital(f"{statement} {parts.context}".strip() + ".")

    def _sentence(self, topic: words.Topic) -> _Sentence:
        if self.chance(_EVENT):
            subjects, actions = topic.events[self.below(len(topic.events))]
        else:
            subjects = (words.SHARED if self.chance(_SHARED_SUBJECT) else topic).people.subjects
            actions = (words.SHARED if self.chance(_SHARED_ACTION) else topic).people.actions
        lines = _actions(actions)
        verbs, objects = lines[self.below(len(lines))]
        around = words.SHARED if self.chance(_SHARED_CONTEXT) else topic
        if self.chance(_OFF_CONTEXT):
            around = words.TOPICS[self.below(4)]
        context = self.pick(around.contexts)
        kept = context if self.chance(0.85) else ""
        return _Sentence(self.pick(subjects), self.pick(verbs), self.pick(objects), kept)

    def _filled(self, phrase: str) -> str:
        while "{" in phrase:
            before, _, rest = phrase.partition("{")
            slot, _, after = rest.partition("}")
            phrase = before + self._name(slot) + after
        return phrase

    def _name(self, slot: str) -> str:
        start = self.pick(words.NAME_STARTS)
        match slot:
            case "person":
                return f"{self.pick(words.FIRST_NAMES)} {start}{self.pick(words.SURNAME_ENDS)}"
            case "town":
                return start + self.pick(words.TOWN_ENDS)
            case "team":
                return f"{start}{self.pick(words.TOWN_ENDS)} {self.pick(words.TEAM_ENDS)}"
            case "company":
                return f"{start}{self.pick(words.SURNAME_ENDS)} {self.pick(words.COMPANY_ENDS)}"
            case "place":
                return self.pick(words.PLACES)
            case "day":
                return self.pick(words.DAYS)
        return str(2 + self.below(38))  # {n}


@cache
def _phrases(text: str) -> Sequence[str]:
    return [phrase.strip() for phrase in text.split(";")]


@cache
def _actions(text: str) -> Sequence[tuple[str, str]]:
    """Parses actions into (verbs, objects); a line that ends in a semicolon continues on the next."""
    lines = (line.partition("|") for line in re.sub(r";\s*\n", ";", text).strip().splitlines())
    return [(verbs, objects) for verbs, _, objects in lines]


def _base(verb: str) -> str:
    """Base form of a verb: `lay:laid off` -> `lay off`."""
    first, *rest = verb.split(" ")
    return " ".join([first.split(":")[0], *rest])


def _past(verb: str) -> str:
    """Past form of a verb: `lay:laid off` -> `laid off`; `try` -> `tried`."""
    first, *rest = verb.split(" ")
    base, _, past = first.partition(":")
    if not past:
        past = base + "d" if base.endswith("e") else base[:-1] + "ied" if _ends_in_y(base) else base + "ed"
    return " ".join([past, *rest])


def _third_person(verb: str) -> str:
    """Third person of a verb: `lay:laid off` -> `lays off`; `try` -> `tries`."""
    first, *rest = verb.split(" ")
    base = first.split(":")[0]
    hisses = base.endswith(("s", "sh", "ch", "x"))
    third = base[:-1] + "ies" if _ends_in_y(base) else base + ("es" if hisses else "s")
    return " ".join([third, *rest])


def _ends_in_y(verb: str) -> bool:
    return verb.endswith("y") and verb[-2] not in "aeo"


def _is_plural(subject: str) -> bool:
    """Whether a noun phrase takes a plural verb, judged by its last word."""
    return subject == "young people" or (subject.endswith("s") and not subject.endswith(("ss", "us", "is")))


def _without_article(phrase: str) -> str:
    first, _, rest = phrase.partition(" ")
    return rest if first in ("a", "an", "the") else phrase


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
