"""Colours and markers of strategies, the same in pictures and on the page."""

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's palette for the colour-blind (2008) without yellow, which is too pale for lines on white; the last
# seven extend it, mostly from Paul Tol's "muted" scheme. Markers distinguish colours that look alike in grey. The
# second colour is the first one, lighter where it would drown in a dark background.
_STYLES: tuple[tuple[str, str, str], ...] = (
    ("#000000", "#F2F2F2", "o"),
    ("#0072B2", "#3D9FDB", "s"),
    ("#E69F00", "#E69F00", "^"),
    ("#D55E00", "#F07A20", "D"),
    ("#56B4E9", "#8CD0F7", "v"),
    ("#009E73", "#1FBF92", "P"),
    ("#CC79A7", "#DB94BB", "X"),
    ("#882255", "#CF5C93", "<"),
    ("#999933", "#BDBD5A", ">"),
    ("#332288", "#8F82E0", "p"),
    ("#888888", "#A6A6A6", "h"),
    ("#661100", "#C8695A", "*"),
    ("#44AA99", "#6CCFBF", "d"),
    ("#AA4499", "#D07CC3", "H"),
)
# The strategies of the original experiment have fixed styles: black, dark and light, which differ in grey too.
_FIXED = {"full": 0, "partial": 1, "prompt": 2}


@dataclass(frozen=True)
class Style:
    """Colour on white, marker (as Matplotlib names it) and colour on a dark background of a strategy."""

    color: str
    marker: str
    dark: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Assigns each strategy a style: `full`, `partial` and `prompt` have fixed ones, others get the next free one."""
    names = list(names)
    unused = [index for name, index in _FIXED.items() if name not in names]
    free = [index for index in range(len(_STYLES)) if index not in _FIXED.values()] + unused
    others = [name for name in names if name not in _FIXED]
    chosen = _FIXED | {name: free[k % len(free)] for k, name in enumerate(others)}
    found = {name: _STYLES[chosen[name]] for name in names}
    return {name: Style(color, marker, dark) for name, (color, dark, marker) in found.items()}
