"""A compiler of training steps that keeps what it compiled, so that a benchmark can look at the programs."""

from collections.abc import Callable, Hashable
from typing import Any

from flax_agnews.training.compiler import Compiled, Compiler


class RecordedCompiler(Compiler):
    """As `Compiler`, and keeps the steps by their kind."""

    _found: list[tuple[str, Compiled]] | None = None

    def __call__(self, function: Callable[..., Any], *examples: Any, same: Hashable = None, **how: Any) -> Compiled:
        """As `Compiler`."""
        compiled = super().__call__(function, *examples, same=same, **how)
        kind = same[0] if isinstance(same, tuple) else "other"
        self._found = [*(self._found or []), (kind, compiled)]
        return compiled

    def of(self, kind: str) -> list[Compiled]:
        """The steps of a kind, such as `gradients`, in their order."""
        return [compiled for name, compiled in self._found or [] if name == kind]
