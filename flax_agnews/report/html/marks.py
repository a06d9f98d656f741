"""How entries look on the page: a marker as an SVG path, and a colour that follows light and dark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin

from flax_agnews.report.colors import styles
from flax_agnews.report.html.content import Entry

_REFERENCES = ("M-.9,-.9H.9L-.9,.9H.9Z", "M-1,-.4H1V.4H-1Z", "M-.4,-1H.4V1H-.4Z")  # hourglass and bars, in grey


def _polygon(corners: int, turned: float = 0.0, inner: float = 1.0) -> str:
    """A regular polygon in the square from -1 to 1, its first corner up; `inner` below 1 makes a star of it.

    Args:
        corners: their number.
        turned: angle, in parts of a corner's.
        inner: radius of every second corner.
    """
    radii = [1.0, inner] if inner < 1 else [1.0]
    steps = corners * len(radii)
    angles = [2 * pi * (k + turned) / steps - pi / 2 for k in range(steps)]
    points = [(r * cos(a), r * sin(a)) for a, r in zip(angles, radii * corners, strict=True)]
    return "M" + "L".join(f"{x:.3f},{y:.3f}" for x, y in points) + "Z"


def _points(*corners: tuple[float, float]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in corners) + "Z"


_PLUS = [(-.35, -1), (.35, -1), (.35, -.35), (1, -.35), (1, .35), (.35, .35), (.35, 1), (-.35, 1), (-.35, .35),
         (-1, .35), (-1, -.35), (-.35, -.35)]  # fmt: skip
_DIAGONAL = [(0.707 * (x - y), 0.707 * (x + y)) for x, y in _PLUS]

_PATHS = {
    "o": "M.9,0A.9,.9,0,1,1,-.9,0A.9,.9,0,1,1,.9,0Z",
    "s": "M-.8,-.8H.8V.8H-.8Z",
    "^": _points((0, -0.95), (1, 0.8), (-1, 0.8)),
    "v": _points((0, 0.95), (1, -0.8), (-1, -0.8)),
    "<": _points((-0.95, 0), (0.8, 1), (0.8, -1)),
    ">": _points((0.95, 0), (-0.8, 1), (-0.8, -1)),
    "D": _polygon(4),
    "d": _points((0, -1), (0.6, 0), (0, 1), (-0.6, 0)),
    "P": _points(*_PLUS),
    "X": _points(*_DIAGONAL),
    "p": _polygon(5),
    "h": _polygon(6),
    "H": _polygon(6, turned=0.5),
    "*": _polygon(5, inner=0.42),
}
"""Matplotlib's name of a marker -> its path in the square from -1 to 1."""


@dataclass(frozen=True)
class Look:
    """An entry's number (of its CSS variable), colours on light and dark, and its marker's path."""

    variable: str
    light: str
    dark: str
    path: str

    @property
    def color(self) -> str:
        """The colour as CSS and SVG write it."""
        return f"var(--{self.variable})"


def looks(entries: Sequence[Entry]) -> dict[str, Look]:
    """The look of every entry: strategies as in the pictures, references grey."""
    names = [entry.name for entry in entries if entry.kind == "strategy"]
    found = {
        name: Look(f"entry-{k}", style.color, style.dark, _PATHS[style.marker])
        for k, (name, style) in enumerate(styles(names).items())
    }
    references = [entry.name for entry in entries if entry.kind == "reference"]
    grey = {
        name: Look("reference", "#6b6f76", "#a3a8b0", _REFERENCES[k % len(_REFERENCES)])
        for k, name in enumerate(references)
    }
    return found | grey


def css_variables(found: Iterable[Look]) -> str:
    """The CSS of all colours, each for light and for dark."""
    every = {look.variable: look for look in found}
    return "".join(f"--{name}:light-dark({look.light},{look.dark});" for name, look in every.items())
