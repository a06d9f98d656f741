"""Checkpoints that can be trusted: every damage is seen, and nothing half-written passes for the whole."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from flax_agnews.errors import UserError
from flax_agnews.runs import sealed
from flax_agnews.training.checkpoint import Store, newest
from flax_agnews.training.exactness import circumstances, inexact
from flax_agnews.training.parallel import Devices
from flax_agnews.training.saving import Saving


def state(step: int) -> dict[str, jnp.ndarray]:
    return {"params": jnp.arange(12.0).reshape(3, 4) * step, "step": jnp.uint32(step)}


def notes(best: int = 0) -> dict[str, object]:
    return {"best_epoch": best, "history": {"val_loss": [0.1 + 0.2, 1e-30]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """States after 10 and 20 updates; both count on the weights of epoch 1."""
    told: list[str] = []
    store = Store(tmp_path / "checkpoints", 2, told.append)
    store.save_best({"w": jnp.ones(5)}, 1)
    for step in (10, 20):
        store.save(step, state(step), notes(best=1))
    store.told = told  # type: ignore[attr-defined]
    return store


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


def test_damaged_weights_of_a_finished_run_are_refused(store: Store) -> None:
    _flip(next(path for path in (store.folder / "best-epoch-1" / "arrays").rglob("*") if path.stat().st_size > 1))
    with pytest.raises(UserError, match=r"best-epoch-1: the weights are damaged \(arrays/.* was changed\)"):
        again(store).restore_best({"w": jnp.zeros(5)}, 1)


def test_missing_extra_and_reshaped_leaves_are_listed(store: Store) -> None:
    with pytest.raises(UserError, match=r"another model or strategy: \['more'\], \['params'\], \['step'\] differ"):
        store.restore(20, {"params": jnp.zeros((4, 3)), "more": jnp.zeros(1)})


def test_runs_that_train_together_go_on_from_what_all_have_sound(tmp_path: Path) -> None:
    one, two = (Store(tmp_path / name) for name in "ab")
    for store, steps in ((one, (10, 20)), (two, (10, 20))):
        for step in steps:
            store.save(step, state(step), notes())
    assert newest([one, two]) == 20
    _cut(two.folder / "step-00000020" / "state.json")
    assert newest([Store(one.folder), Store(two.folder)]) == 10
    shutil.rmtree(two.folder)
    assert newest([Store(one.folder), Store(two.folder)]) == 0


# --- in the background


def test_a_failed_save_is_told_at_once_and_stops_none_of_the_later_ones(tmp_path: Path) -> None:
    """A file where the folder should be: a real error of the system."""
    told: list[str] = []
    store, saving = Store(tmp_path / "checkpoints"), Saving(every_steps=1, note=told.append)
    saving.begin(48)
    (tmp_path / "checkpoints").write_text("in the way")
    saving.save("step 1", lambda: [lambda sign: store.save(1, state(1), notes(), sign)])
    assert not saving.wait()
    [line] = told
    assert line.startswith("step 1 could not be saved (")
    assert "goes on" in line
    (tmp_path / "checkpoints").unlink()
    saving.save("step 2", lambda: [lambda sign: store.save(2, state(2), notes(), sign)])
    assert saving.wait()
    assert newest([Store(store.folder)]) == 2


def test_training_goes_on_while_a_save_is_written() -> None:
    saving, gate, written = Saving(share=0.5), threading.Event(), []
    saving.begin(0)
    saving.save("a state", lambda: [lambda sign: gate.wait() and None, lambda sign: written.append(1)])
    assert not saving.due(1)  # not before it is written
    assert not written
    gate.set()
    assert saving.wait()
    assert written == [1]


@pytest.mark.parametrize("share", [0.01, 0.25])
def test_saves_are_as_rare_as_they_are_dear(share: float) -> None:
    """Each is followed by at least its cost divided by the share, until the next."""
    saving = Saving(share=share)
    saving.begin(0)
    saving.save("a state", lambda: [lambda sign: time.sleep(0.02)])
    saving.wait()
    assert saving.cost >= 0.02
    assert saving.interval == pytest.approx(saving.cost / share)
    started = time.perf_counter()
    while not saving.due(1):
        time.sleep(0.001)
    waited = time.perf_counter() - started
    assert waited + 0.5 * saving.cost >= saving.interval - saving.cost


def test_what_a_crash_can_lose_is_told_before_it_can_happen() -> None:
    told: list[str] = []
    Saving(share=0.01, note=told.append).begin(1_200_000_000)  # 6 s at the first guess of 200 MB a second
    assert told == ["1.2 GB are saved about every 10 min, the most that a crash can lose"]


# --- exactness


def test_other_circumstances_are_named() -> None:
    here = circumstances(Devices("jit", tuple(__import__("jax").local_devices()[:1])))
    assert inexact(here, here) is None
    assert here["cores"] == str(len(os.sched_getaffinity(0)))
    other = inexact({**here, "cores": "96", "jax": "0.1"}, here)
    assert other is not None
    assert "cores 96, now" in other
    assert "jax 0.1, now" in other
    assert "jaxlib" not in other


def test_a_process_on_fewer_cores_is_another_circumstance() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core alone")
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "import jax; from flax_agnews.training.exactness import circumstances as c;"
        "from flax_agnews.training.parallel import Devices; print(c(Devices('jit', jax.local_devices()[:1]))['cores'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"
