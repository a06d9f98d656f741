"""Writes of checkpoints that hang in the kernel: TensorStore opens a pipe that nobody reads in place of a file.

As a script, the command with another patience: `hanging.py SECONDS ARGUMENTS`.
"""

import functools
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path


class Pipes:
    """A context in which so many drafts of checkpoints hang, those first seen; afterwards their writes fail.

    Args:
        folder: somewhere above the drafts.
        drafts: pattern of theirs, in it.
        most: how many hang.

    Attributes:
        caught: the drafts that hang.
    """

    def __init__(self, folder: Path, drafts: str, most: int = 1) -> None:
        self.folder, self.pattern, self.most = folder, f"{drafts}/arrays*/state", most
        self.caught: list[Path] = []
        self._over, self._pipes = threading.Event(), list[Path]()
        self._thread = threading.Thread(target=self._lay)

    def __enter__(self) -> "Pipes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for pipe in self._pipes:
            with suppress(OSError):
                os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # whoever waits to write goes on

    def _lay(self) -> None:
        while len(self.caught) < self.most and not self._over.is_set():
            for leaves in self.folder.glob(self.pattern):
                draft = leaves.parent.parent
                if draft not in self.caught:
                    with suppress(OSError):  # the draft has gone
                        self._block(leaves)
                        self.caught.append(draft)

    def _block(self, leaves: Path) -> None:
        """Each leaf has one chunk: c for a number, c/0 for a vector, c/0/0 for a matrix."""
        described = json.loads((leaves.parent.parent / "state.json").read_text())["leaves"]
        for leaf, (shape, _) in reversed(list(enumerate(described.values()))):
            pipe = leaves / str(leaf) / f"{'/'.join(['c', *'0' * len(shape)])}.__lock"
            pipe.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.mkfifo(pipe)
                self._pipes.append(pipe)


if __name__ == "__main__":
    from flax_agnews.main import main
    from flax_agnews.training.saving import Saving

    Saving.__init__ = functools.partialmethod(Saving.__init__, patience=float(sys.argv[1]))  # type: ignore[assignment]
    sys.exit(main(sys.argv[2:]))
