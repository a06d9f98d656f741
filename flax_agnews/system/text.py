"""Formatting of numbers, durations, names and tables for the terminal and for Markdown."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flax_agnews.errors import printable

NOT_KNOWN = "–"
"""Shown instead of a number that is None."""


def count(number: float) -> str:
    """A number in at most three digits, with a unit: `21 k` for 21034."""
    scaled, units = float(number), ["", " k", " M", " G", " T"]
    while round(scaled) >= 1000 and len(units) > 1:
        scaled, units = scaled / 1000, units[1:]
    short = f"{scaled:.1f}".removesuffix(".0") if round(scaled, 1) < 10 else f"{scaled:.0f}"
    return short + units[0]


def duration(seconds: float) -> str:
    """A duration as hours, minutes, seconds: `0:00:31`."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def left_text(seconds: float | None) -> str:
    """`0:00:52 left`; empty where it is unknown."""
    return "" if seconds is None else f"{duration(seconds)} left"


def words_duration(seconds: float) -> str:
    """A duration in its two largest units, rounded: `1 min 40 s` for 100 seconds."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        whole = round(whole / 60) * 60
    parts = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def counted(number: int, noun: str) -> str:
    """A count with its noun, given in the singular: `1 text`, `2,000 texts`, `3 strategies`, `4 classes`."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"


def share_text(part: int, whole: int) -> str:
    """A share in percent; only exact shares are shown as 0 or 100: `100 %`, `>99 %`, `45 %`, `0.3 %`, `0.015 %`."""
    percent = 100 * part / max(whole, 1)
    if 99.5 <= percent < 100:
        return ">99 %"
    if percent >= 9.95 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.095 else f"{percent:.2g} %"


def seconds_text(seconds: float | None) -> str:
    """A duration for tables: `0.4 s`, `12 s`, `1 min 40 s`, `2 h 3 min`; `NOT_KNOWN` for None."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def short_count(count: float | None) -> str:
    """A number in two or three digits for tables: `950`, `21 k`, `1.2 M`, `3.4 G`; `NOT_KNOWN` for None."""
    if count is None:
        return NOT_KNOWN
    for limit, scale, unit in ((999.5, 1, ""), (999_500, 1e3, " k"), (999.5e6, 1e6, " M")):
        if count < limit:
            return f"{_short(count / scale) if unit else f'{count:.0f}'}{unit}"
    return f"{_short(count / 1e9)} G"


def bytes_text(count: float | None) -> str:
    """A number of bytes in decimal units: `950 B`, `812 MB`, `1.2 GB`; `NOT_KNOWN` for None."""
    number, _, unit = short_count(count).partition(" ")
    return NOT_KNOWN if count is None else f"{number} {unit}B"


def p_text(p: float | None) -> str:
    """A p value in three decimals: `0.040`, `<0.001`; `NOT_KNOWN` for None."""
    if p is None:
        return NOT_KNOWN
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def one_line(text: str) -> str:
    """`text` on one line, for tables: each sequence of white space and control characters becomes one space."""
    return " ".join(printable(text).split())


def shorten(text: str, most: int) -> str:
    """`text`, cut to `most` characters, with an ellipsis at its end where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short_names(names: Sequence[Any], most: int = 24) -> list[str]:
    """Class names for a table: each on one line, long ones shortened in the middle, all different."""
    whole = [one_line(str(name)) for name in names]
    head, tail = most // 2, most - most // 2 - 1
    short = [name if len(name) <= most else f"{name[:head]}…{name[-tail:]}" for name in whole]
    times = Counter(short)
    return [name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(short)]


def escape(text: str) -> str:
    """`text` on one line, with the characters that are markup in Markdown or HTML escaped."""
    return re.sub(r"([\\`*_\[\]<>|#~&!$])", r"\\\1", one_line(text))


def pipe_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table of plain texts, which are escaped; columns after the first `left` are right-aligned."""
    rule = [":---" if index < left else "---:" for index in range(len(headers))]
    lines = [[escape(cell) for cell in headers], rule, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def type_text(dtype: str, products: str | None) -> str:
    """`float32 (products in TF32)`, or the type alone where products are of that type or it is unknown."""
    return dtype if products in (None, dtype) else f"{dtype} (products in {products})"
