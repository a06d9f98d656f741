"""Runs the command, and kills itself at a given call: `killed.py MODULE:FUNCTION:before|after:N ARGUMENTS`.

It is killed before, or after, the N-th call of that function, by SIGKILL: nothing is flushed or undone.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any


def _killing(function: Callable[..., Any], when: str, nth: int) -> Callable[..., Any]:
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls == nth and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


if __name__ == "__main__":
    module, path, when, nth = sys.argv[1].split(":")
    *outer, name = path.split(".")
    owner = importlib.import_module(module)
    for part in outer:
        inner = getattr(owner, part)
        if isinstance(inner, ModuleType):  # only this module's calls count, not those of others that import it too
            inner = SimpleNamespace(**vars(inner))
            setattr(owner, part, inner)
        owner = inner
    setattr(owner, name, _killing(getattr(owner, name), when, int(nth)))
    from flax_agnews.main import main

    sys.exit(main(sys.argv[2:]))
