"""Checkpoints: what was saved comes back bit for bit, and every damage is noticed."""

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support.checkpoints import notes, state, store

from flax_agnews.errors import UserError
from flax_agnews.training.checkpoint import Store, newest

__all__ = ["store"]  # fixtures


def again(store: Store) -> Store:
    """The same folder, as the next process sees it."""
    fresh = Store(store.folder, store.keep, store.told.append)  # type: ignore[attr-defined]
    fresh.told = store.told  # type: ignore[attr-defined]
    return fresh


def test_what_was_saved_comes_back_bit_for_bit(store: Store) -> None:
    assert newest([store]) == 20
    found, said = again(store).restore(20, state(0))
    assert all(np.asarray(found[name]).tobytes() == np.asarray(state(20)[name]).tobytes() for name in found)
    assert said == notes(best=1)
    assert again(store).restore_best({"w": jnp.zeros(5)}, 1)["w"].tolist() == [1.0] * 5


def test_a_manifest_is_sha256sums(store: Store) -> None:
    """The reference: coreutils."""
    folder = store.folder / "step-00000020"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    lines = subprocess.run(["sha256sum", *files], capture_output=True, text=True, check=True).stdout.splitlines()
    sums = {str(file.relative_to(folder)): line.split()[0] for file, line in zip(files, lines, strict=True)}
    assert {name: entry[1] for name, entry in listed.items()} == sums
    assert all((folder / name).stat().st_size == size for name, (size, _) in listed.items())


def test_only_the_last_states_stay_and_the_best_weights_that_they_count_on(store: Store) -> None:
    store.save_best({"w": jnp.ones(5)}, 2)
    store.save(30, state(30), notes(best=2))
    names = {path.name for path in store.folder.iterdir()}
    assert names == {"step-00000020", "step-00000030", "best-epoch-1", "best-epoch-2"}
    store.save(40, state(40), notes(best=2))
    assert {path.name for path in store.folder.iterdir()} == {"step-00000030", "step-00000040", "best-epoch-2"}
    store.finish(2)
    assert {path.name for path in store.folder.iterdir()} == {"best-epoch-2"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _flip, _empty, Path.unlink], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("where", ["step-00000020", "best-epoch-1"])
def test_every_file_that_is_harmed_is_noticed(store: Store, where: str, harm: object, tmp_path: Path) -> None:
    """In turn: the newer state gives way to the older one; where the best weights are harmed, neither is taken up."""
    whole = Path(shutil.copytree(store.folder, tmp_path / "whole"))
    files = [path.relative_to(whole) for path in sorted((whole / where).rglob("*")) if path.is_file()]
    assert len(files) >= 5
    for file in files:
        if file.name != "manifest.json" and harm is not Path.unlink and not (whole / file).stat().st_size:
            continue
        shutil.rmtree(store.folder)
        shutil.copytree(whole, store.folder)
        harm(store.folder / file)  # type: ignore[operator]
        store.told.clear()  # type: ignore[attr-defined]
        found = newest([fresh := again(store)])
        assert found == (10 if where == "step-00000020" else 0), file
        assert not (store.folder / where).exists()
        assert (store.folder / f"{where}.damaged").is_dir()
        assert f"{where}: damaged" in store.told[0]  # type: ignore[attr-defined]
        if found:
            assert fresh.restore(10, state(0))[0]["step"] == 10


def test_damaged_weights_of_a_finished_run_are_refused(store: Store) -> None:
    _flip(next(path for path in (store.folder / "best-epoch-1" / "arrays").rglob("*") if path.stat().st_size > 1))
    with pytest.raises(UserError, match=r"best-epoch-1: the weights are damaged \(arrays/.* was changed\)"):
        again(store).restore_best({"w": jnp.zeros(5)}, 1)


def test_missing_extra_and_reshaped_leaves_are_listed(store: Store) -> None:
    with pytest.raises(UserError, match=r"another model or strategy: \['more'\], \['params'\], \['step'\] differ"):
        store.restore(20, {"params": jnp.zeros((4, 3)), "more": jnp.zeros(1)})


def test_runs_that_train_together_go_on_from_what_all_have_sound(tmp_path: Path) -> None:
    one, two = (Store(tmp_path / name) for name in "ab")
    for each, steps in ((one, (10, 20)), (two, (10, 20))):
        for step in steps:
            each.save(step, state(step), notes())
    assert newest([one, two]) == 20
    _cut(two.folder / "step-00000020" / "state.json")
    assert newest([Store(one.folder), Store(two.folder)]) == 10
    shutil.rmtree(two.folder)
    assert newest([Store(one.folder), Store(two.folder)]) == 0


# --- in the background


# --- exactness


def test_orbax_creates_a_saves_folder_once_and_before_it_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, it sometimes creates the folder twice, which removes what was written between."""
    atomicity = importlib.import_module("orbax.checkpoint._src.path.atomicity")
    threads = importlib.import_module("orbax.checkpoint.experimental.v1._src.synchronization.thread_utils")
    create, begin, order = atomicity._create_tmp_directory, threads.BackgroundThreadRunner.__init__, []

    async def created(*arguments: object, **named: object) -> object:
        order.append("created")
        return await create(*arguments, **named)

    def begun(*arguments: object) -> None:
        order.append("in the background")
        begin(*arguments)

    monkeypatch.setattr(atomicity, "_create_tmp_directory", created)
    monkeypatch.setattr(threads.BackgroundThreadRunner, "__init__", begun)
    store.save(1, state(1), notes(1))
    assert order == ["created", "in the background"]
