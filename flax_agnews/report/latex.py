"""The final table as LaTeX for papers, with the rules of the package booktabs."""

import re

from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.tables import rank_text, seeds_text
from flax_agnews.statistics.intervals import Interval
from flax_agnews.system.text import NOT_KNOWN, counted, one_line

_ESCAPED = {
    **{letter: f"\\{letter}" for letter in "{}$&%#_"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{letter: f"{{{letter}}}" for letter in "[]*"},  # after the end of a row they would be its arguments
}


def latex_table(answer: Answer) -> str:
    r"""A table of strategies, and below a rule of references, to be read by `\input`; it needs `\usepackage{booktabs}`.

    Columns: name, mean test accuracy with its 95 % interval in percent, macro-F1 in percent, trained parameters, rank;
    entries that can't be told apart share a rank, which a `=` marks.
    """
    texts, source = counted(answer.results.data.test, "test text"), one_line(answer.results.data.source)
    lines = [
        f"% {source}: {seeds_text(answer.results)}, {texts}; intervals (95 %) for other seeds and texts",
        r"\begin{tabular}{lllrrl}",
        r"\toprule",
        _row("Strategy", r"Accuracy (\%)", r"95\,\% interval", r"Macro-F1 (\%)", "Trained parameters", "Rank"),
        r"\midrule",
        *(_entry(answer, entry) for entry in answer.strategies),
    ]
    if answer.references:
        lines += [r"\midrule", *(_entry(answer, entry) for entry in answer.references)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """A text as LaTeX shows it unchanged: on one line, without commands, and without ligatures such as of `--`."""
    apart = "".join(_ESCAPED.get(letter, letter) for letter in one_line(text))
    return re.sub(r"([-'`,])(?=\1)", r"\1{}", apart)


def _entry(answer: Answer, entry: Entry) -> str:
    macro_f1 = entry.macro_f1.mean if entry.macro_f1 else answer.results.summary[entry.name].test_macro_f1.mean
    parameters = entry.reference.parameters if entry.reference else entry.runs[0].trainable_parameters
    return _row(
        escaped(entry.name),
        f"{100 * entry.mean:.1f}",
        _interval(entry.accuracy),
        "--" if macro_f1 is None else f"{100 * macro_f1:.1f}",
        f"{parameters:,}",
        rank_text(answer, entry).replace(NOT_KNOWN, "--"),
    )


def _interval(found: Interval | None) -> str:
    if found is None or found.low is None or found.high is None:
        return "--"
    return f"{100 * found.low:.1f}--{100 * found.high:.1f}"


def _row(*cells: str) -> str:
    return " & ".join(cells) + r" \\"
