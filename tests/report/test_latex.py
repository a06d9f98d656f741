"""The LaTeX table, read back row by row, against the answer that it was made of."""

import re

import pytest
from support.made_predictions import evidence
from support.report_results import HOSTILE, answer_of, make, parsed

from flax_agnews.report.answer import Answer, answer
from flax_agnews.report.latex import escaped, latex_table

SCORES = {
    "full": [0.90, 0.905, 0.895, 0.902, 0.898],
    "partial": [0.895, 0.9, 0.905, 0.897, 0.903],
    "prompt": [0.70, 0.71, 0.69, 0.702, 0.698],
}
SHOWN = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
SHOWN |= {"textbar": "|", "textquotedbl": '"'}


def typeset(source: str) -> str:
    """What LaTeX shows of text with escaped characters and commands without arguments; others are a KeyError."""
    token = re.compile(r"\\([a-z]+)\{\}|\\([{}$&%#_])|\{([^{}]?)\}|([^\\{}$&%#_~^])")
    place, shown = 0, ""
    while place < len(source):
        found = token.match(source, place)
        assert found, f"LaTeX would take this as markup: {source[place:]!r}"
        command, special, group, plain = found.groups()
        shown += SHOWN[command] if command else special or plain or group or ""
        place = found.end()
    return shown


def made(scores: dict[str, list[float]], references: dict[str, float] | None = None) -> Answer:
    return answer(parsed(make(scores)), evidence(scores, references))


def rows_of(table: str) -> list[list[list[str]]]:
    """The cells of each row, in the groups between the rules."""
    body = table.split("\\toprule")[1].split("\\bottomrule")[0]
    groups = [group.strip().removesuffix("\\\\").split("\\\\\n") for group in body.split("\\midrule")]
    return [[[cell.strip() for cell in re.split(r"(?<!\\)&", row)] for row in group] for group in groups]


def test_rows_are_the_entries_and_references_stand_below_a_rule() -> None:
    found = made(SCORES, {"TF-IDF": 0.6, "majority class": 0.5})
    head, strategies, references = rows_of(latex_table(found))
    assert [len(row) for row in (*head, *strategies, *references)] == [6] * 6
    assert [row[0] for row in strategies] == ["full", "partial", "prompt"]
    assert [row[0] for row in references] == ["TF-IDF", "majority class"]
    assert [row[-1] for row in (*strategies, *references)] == ["1=", "1=", "3", "4", "--"]
    for row, entry in zip([*strategies, *references], found.entries, strict=True):
        assert entry.accuracy is not None
        assert entry.macro_f1 is not None
        assert float(row[1]) == round(100 * entry.mean, 1)
        assert [float(end) for end in row[2].split("--")] == [
            round(100 * (end or 0), 1) for end in (entry.accuracy.low, entry.accuracy.high)
        ]
        assert float(row[3]) == round(100 * entry.macro_f1.mean, 1)
    trained = [run["trainable_parameters"] for run in make(SCORES)["runs"][::5]]
    assert [int(row[4].replace(",", "")) for row in (*strategies, *references)] == [*trained, 1234, 1234]


def test_without_predictions_there_are_means_and_no_second_rule() -> None:
    results = make(SCORES)
    _, strategies = rows_of(latex_table(answer_of(results)))
    assert [(row[0], row[2], row[-1]) for row in strategies] == [(name, "--", "--") for name in SCORES]
    f1 = [sum(run["test_macro_f1"] for run in results["runs"][i : i + 5]) / 5 for i in (0, 5, 10)]
    assert [float(row[3]) for row in strategies] == [round(100 * score, 1) for score in f1]


@pytest.mark.parametrize("name", [HOSTILE, "[b]", "*", "a--b---c", "``x''", ",,", "100 % & more_\\\\", "{}^~#$", "é"])
def test_a_name_is_shown_as_it_is(name: str) -> None:
    assert typeset(escaped(name)) == name
    for ligature in ("--", "``", "''", ",,"):
        assert ligature not in escaped(name)
    [[cell, *_], *_] = rows_of(latex_table(made({name: [0.9, 0.9], "full": [0.8, 0.8]})))[1]
    assert typeset(cell) == name
    assert cell[0] not in "[*"  # the end of the row before would take it for its argument


def test_a_name_stays_on_its_line_and_the_comment_too() -> None:
    assert escaped("a\nb\r\nc\u2028d") == "a b c d"
    results = make({"full": [0.9]})
    results["data"]["source"] = "texts\n\\input{secret}"
    comment, begin = latex_table(answer_of(results)).splitlines()[:2]
    assert comment.startswith("% texts \\input{secret}: ")
    assert begin.startswith(r"\begin{tabular}")
