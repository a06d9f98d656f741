"""Caches never change what an experiment computes: not in a second run, nor where they are emptied beside it."""

import gc
import threading
from pathlib import Path

import pytest
from support.small_experiments import results, small, without_cost

from flax_agnews.main import main
from flax_agnews.system.caches import KINDS, entries, folder_of, remove

FLAGS = (
    "--strategy",
    "partial",
    "--train.epochs",
    1,
    "--train.runs",
    1,
    "--pretrain.epochs",
    1,
    "--report.reference",
    "tfidf",
)
OURS = set(KINDS) - {"compiled"}  # tests share compiled programs, in a folder that JAX was given


def contents() -> dict[str, dict[str, tuple[int, float]]]:
    """Kind -> name of each entry -> its size, and the time of its last use."""
    return {kind: {e.path.name: (e.size, e.used) for e in entries(folder_of(kind))} for kind in OURS}


def test_a_second_run_computes_nothing_that_is_cached_and_an_emptied_cache_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    assert main(small(tmp_path / "cold", *FLAGS)) == 0
    cold = contents()
    assert set(cold) == OURS
    assert all(cold.values())
    assert "caching the lower" in capsys.readouterr().out

    with monkeypatch.context() as patch:
        for owner, name in (
            ("flax_agnews.data.tokens.Tokenizer", "encode"),
            ("flax_agnews.data.vocabularies", "train_tokenizer"),
            ("flax_agnews.training.activation_cache", "compute"),
            ("flax_agnews.training.pretrain", "adapt"),
            ("flax_agnews.experiment.data_files", "tfidf"),
        ):
            patch.delattr(f"{owner}.{name}")
        assert main(small(tmp_path / "warm", *FLAGS)) == 0
    warm = contents()
    assert {kind: set(there) for kind, there in warm.items()} == {kind: set(there) for kind, there in cold.items()}
    for kind, there in cold.items():
        assert all(warm[kind][name][1] > used for name, (_, used) in there.items()), kind

    removed, ended = dict.fromkeys(OURS, 0), threading.Event()

    def empty() -> None:
        last = False
        while not last:
            last = ended.wait(0.002)  # once more after the end, for what was kept last
            for kind in OURS:
                removed[kind] += sum(remove(entry) for entry in entries(folder_of(kind)))

    gc.collect()  # arrays of the runs before, which are in use as long as something refers to them
    thread = threading.Thread(target=empty)
    thread.start()
    try:
        assert main(small(tmp_path / "emptied", *FLAGS)) == 0
    finally:
        ended.set()
        thread.join()
    assert all(removed[kind] >= len(cold[kind]) for kind in OURS)
    plain = [without_cost(results(tmp_path / name)) for name in ("cold", "warm", "emptied")]
    for record in plain:
        for differing in ("folder", "output"):
            record.pop(differing, None)
    assert plain[0] == plain[1] == plain[2]
    weights = [(tmp_path / name / "base" / "model.safetensors").read_bytes() for name in ("cold", "warm", "emptied")]
    assert weights[0] == weights[1] == weights[2]
