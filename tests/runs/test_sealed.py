"""Folders with a manifest: every changed, added or linked file is noticed."""

import shutil
from pathlib import Path

from support.checkpoints import store

from flax_agnews.runs import sealed
from flax_agnews.training.checkpoint import Store

__all__ = ["store"]  # fixtures


def test_a_manifest_of_which_any_byte_has_a_bit_flipped_is_noticed(store: Store) -> None:
    folder = store.folder / "best-epoch-1"
    path, content = folder / "manifest.json", (folder / "manifest.json").read_bytes()
    assert sealed.damage(folder) is None
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(bytes(flipped))
        assert sealed.damage(folder), (place, bytes(flipped))


def test_a_file_more_and_a_link_are_noticed(store: Store, tmp_path: Path) -> None:
    folder = store.folder / "best-epoch-1"
    (folder / "more").write_text("")
    assert sealed.damage(folder) == "more was added"
    (folder / "more").unlink()
    shutil.move(folder / "state.json", tmp_path / "state.json")
    (folder / "state.json").symlink_to(tmp_path / "state.json")
    assert sealed.damage(folder) == "state.json was changed"
