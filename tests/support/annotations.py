"""The check of array annotations that `tests/conftest.py` puts on the package's functions."""

from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def checked(function):
    """Checks the annotations that name an array with its shape; mypy checks the others."""
    annotations = function.__annotations__
    function.__annotations__ = {name: hint if names_array(hint) else Any for name, hint in annotations.items()}
    return beartype(function)


def names_array(hint):
    """Whether an annotation is `Float[Array, "tokens"]` or the like, or has one in it."""
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(map(names_array, get_args(hint)))
