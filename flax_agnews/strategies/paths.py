"""Tells from a parameter's path (`transformer/h/6/mlp/c_fc/kernel`) which part of the model it belongs to."""

from flax_agnews.errors import UserError, shown


def layers(first: int, end: int) -> str:
    """Regular expression of the parameters of layers `first` to `end` - 1, from 0, for `Strategy.by_pattern`."""
    if type(first) is not int or type(end) is not int:
        raise UserError(f"layers({shown(repr(first))}, {shown(repr(end))}): must be two whole numbers")
    if not 0 <= first < end:
        raise UserError(f"layers({first}, {end}): holds no layer; the first must be 0 or more, and below the end")
    return f"^transformer/h/({'|'.join(map(str, range(first, end)))})/"


def in_head(path: str) -> bool:
    """Whether a parameter belongs to the classification head."""
    return path.startswith("score/")


def height(path: str, layers: int) -> int:
    """A parameter's height in the model: 0 in the embeddings, 1 to `layers` in a layer, `layers` + 1 elsewhere.

    Args:
        path: path of the parameter.
        layers: number of layers of the body.
    """
    parts = path.split("/")
    if parts[:2] == ["transformer", "h"]:
        return int(parts[2]) + 1
    return 0 if parts[:2] in (["transformer", "wte"], ["transformer", "wpe"]) else layers + 1
