"""Draws a strategy: the layers of GPT-2, and in each the trained and the added parameters."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from flax_agnews import Description

_PARTS = ("ln_1", "attn/c_attn", "attn/c_proj", "ln_2", "mlp/c_fc", "mlp/c_proj")
_WIDTH, _HEIGHT, _GAP, _LEFT = 38, 17, 3, 84  # of a cell, pixels; where cells begin
_CELLS = len(_PARTS) * (_WIDTH + _GAP) - _GAP
_RIGHT = _LEFT + _CELLS + 8  # where rates are written
_OWN = {"kernel", "bias", "scale", "embedding"}  # names of a plain GPT-2's parameters


@dataclass(frozen=True)
class Leaf:
    """One parameter of one layer, or outside the layers.

    Attributes:
        path: of the parameter, such as transformer/h/3/ln_1/bias.
        rate: highest learning rate; None if it is frozen.
        epoch: first epoch in which it trains, from 0.
    """

    path: str
    rate: float | None
    epoch: int


def picture(described: Description, layers: int) -> str:
    """A strategy's picture as SVG, without an empty line in it.

    Args:
        described: the description of the strategy.
        layers: number of the body's layers.
    """
    leaves = list(_leaves(described))
    highest = max(leaf.rate for leaf in leaves if leaf.rate)
    rows = list(_rows(leaves, layers))
    told_beside = [_said([leaf for *_, inside in cells for leaf in inside]) for _, cells in rows]
    right = _RIGHT + max(72.0, 6.3 * max(map(len, told_beside)))
    top, lines, before = 16, [_headings()], ""
    for (label, cells), said in zip(rows, told_beside, strict=True):
        lines.append(_text(_LEFT - 8, top + 12.5, label, "fa-label", "end"))
        for x, width, name, inside in cells:
            lines += _cell(x, top, width, name, inside, highest)
        if said != before:
            lines.append(_text(_RIGHT, top + 12.5, said, "fa-rate"))
        top, before = top + _HEIGHT + _GAP, said
    lines += _legend(leaves, top + 8)
    size = f'viewBox="0 0 {right:g} {top + 32}" width="{right:g}"'
    title = f"{described.name}: {described.trained:,} of {described.total:,} parameters train"
    head = f'<svg class="fa-diagram" {size} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    return "\n".join(['<div class="fa-picture">', head, *lines, "</svg>", "</div>"])


def _leaves(described: Description) -> Iterator[Leaf]:
    for row in described.rows:
        found = re.match(r"transformer/h/([\d,-]+)/(.*)", row.parameter)
        for layer in _numbers(found[1]) if found else [None]:
            path = row.parameter if found is None else f"transformer/h/{layer}/{found[2]}"
            yield Leaf(path, row.rate, row.epoch)


def _numbers(text: str) -> Iterator[int]:
    """`0-2,5` -> 0, 1, 2, 5."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _rows(leaves: Sequence[Leaf], layers: int) -> Iterator[tuple[str, list[tuple[float, float, str, list[Leaf]]]]]:
    """Label and cells (left, width, name, parameters) of each row, from the head down."""

    def within(start: str) -> list[Leaf]:
        return [leaf for leaf in leaves if leaf.path.startswith(start)]

    yield "head", [(_LEFT, _CELLS, "", within("score/"))]
    yield "final norm", [(_LEFT, _CELLS, "", within("transformer/ln_f/"))]
    seen = within("prompt/keys_values")  # before each layer's attention
    for layer in reversed(range(layers)):
        cells = []
        for place, part in enumerate(_PARTS):
            inside = within(f"transformer/h/{layer}/{part}/") + (seen if part == "attn/c_attn" else [])
            cells.append((_LEFT + place * (_WIDTH + _GAP), _WIDTH, "", inside))
        yield f"layer {layer + 1}", cells
    half = (_CELLS - _GAP) / 2
    yield (
        "embeddings",
        [
            (_LEFT, half, "tokens", within("transformer/wte/")),
            (_LEFT + half + _GAP, half, "positions", within("transformer/wpe/")),
        ],
    )
    if prompt := within("prompt/embedding"):
        yield "soft prompt", [(_LEFT, _CELLS, "vectors before every text", prompt)]


def _cell(x: float, y: float, width: float, name: str, inside: Sequence[Leaf], highest: float) -> Iterator[str]:
    own = [leaf for leaf in inside if leaf.path.split("/")[-1] in _OWN and "adapter_" not in leaf.path]
    plain = [leaf for leaf in own if not leaf.path.startswith("prompt/")]
    trained = [leaf.rate for leaf in plain if leaf.rate and not leaf.path.endswith("/bias")]
    biases = [leaf.rate for leaf in plain if leaf.rate and leaf.path.endswith("/bias")]
    added = [leaf for leaf in inside if leaf not in plain]
    box = f'x="{x:g}" width="{width:g}" rx="2.5"'
    yield f'<rect class="fa-frozen" {box} y="{y}" height="{_HEIGHT}"/>'
    if trained:
        shade = 0.3 + 0.7 * (max(trained) / highest) ** 0.5
        yield f'<rect class="fa-trains" {box} y="{y}" height="{_HEIGHT}" fill-opacity="{shade:.2f}"/>'
    elif biases:
        yield f'<rect class="fa-trains" {box} y="{y + _HEIGHT - 5}" height="5"/>'
    if added and not plain:
        yield f'<rect class="fa-added" {box} y="{y}" height="{_HEIGHT}"/>'
    elif added:
        before = any(leaf.path.startswith("prompt/") for leaf in added)  # keys and values before attention's own
        left = x + 3 if before else x + width - 14
        yield f'<rect class="fa-added" x="{left:g}" width="11" rx="2" y="{y + 3}" height="{_HEIGHT - 6}"/>'
    if name:
        style = "fa-inside" if (added and not plain) or trained else "fa-name"
        yield _text(x + width / 2, y + 12.5, name, style, "middle")


def _said(inside: Sequence[Leaf]) -> str:
    """The text beside a row: its learning rates, and the epoch from which it trains."""
    trained = [leaf for leaf in inside if leaf.rate]
    if not trained:
        return "frozen"
    rates = sorted({float(f"{leaf.rate:.3g}") for leaf in trained if leaf.rate})
    since = min(leaf.epoch for leaf in trained)
    return ", ".join(short(rate) for rate in rates) + (f" from epoch {since + 1}" if since else "")


def short(number: float) -> str:
    """A number with three digits: `5e-5` for 0.00005, `0.01` for 0.01."""
    if not 0 < number < 0.01:
        return f"{number:.3g}"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _headings() -> str:
    texts = [
        _text(_LEFT + place * (_WIDTH + _GAP) + _WIDTH / 2, 10, part.split("/")[-1], "fa-heading", "middle")
        for place, part in enumerate(_PARTS)
    ]
    return "\n".join([*texts, _text(_RIGHT, 10, "learning rate", "fa-heading")])


def _legend(leaves: Sequence[Leaf], y: float) -> Iterator[str]:
    added = [leaf for leaf in leaves if leaf.path.startswith("prompt/") or leaf.path.split("/")[-1] not in _OWN]
    added += [leaf for leaf in leaves if "adapter_" in leaf.path]
    trains = any(leaf.rate for leaf in leaves if leaf not in added)
    frozen = any(leaf.rate is None for leaf in leaves)
    x = float(_LEFT)
    for kind, text, shown in (
        ("fa-trains", "trains", trains),
        ("fa-added", "added, trains", bool(added)),
        ("fa-frozen", "frozen", frozen),
    ):
        if shown:
            yield f'<rect class="{kind}" x="{x:g}" y="{y}" width="14" height="11" rx="2"/>'
            yield _text(x + 19, y + 9.5, text, "fa-heading")
            x += 34 + 6 * len(text)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
