"""Which part of the model a parameter belongs to, by its path (`transformer/h/6/mlp/c_fc/kernel`)."""

from flax_agnews.errors import UserError, shown


def layers(first: int, end: int) -> str:
    """The pattern of all parameters of layers `first` to `end` (without it), for `Strategy.by_pattern`."""
    if type(first) is not int or type(end) is not int:
        raise UserError(f"layers({shown(repr(first))}, {shown(repr(end))}): must be two whole numbers")
    if not 0 <= first < end:
        raise UserError(f"layers({first}, {end}): holds no layer; the first must be 0 or more, and below the end")
    return f"^transformer/h/({'|'.join(map(str, range(first, end)))})/"


def in_head(path: str) -> bool:
    """Whether a parameter is the classification head's."""
    return path.startswith("score/")


def height(path: str, layers: int) -> int:
    """The height of a parameter in the model: 0 for embeddings, 1 to `layers` in a layer, `layers` + 1 above them.

    Args:
        path: of the parameter.
        layers: of the body.
    """
    parts = path.split("/")
    if parts[:2] == ["transformer", "h"]:
        return int(parts[2]) + 1
    return 0 if parts[:2] in (["transformer", "wte"], ["transformer", "wpe"]) else layers + 1
