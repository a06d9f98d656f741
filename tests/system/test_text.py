"""Counts with their nouns: one of a thing is never called many."""

import json
import re
from pathlib import Path

import pytest
from support.small_experiments import BODY, small

from flax_agnews import evaluate, export, predict
from flax_agnews.main import main
from flax_agnews.system.text import counted

NOUNS = {
    "text": "texts", "validation text": "validation texts", "class": "classes", "process": "processes", "box": "boxes",
    "strategy": "strategies", "key": "keys", "batch": "batches", "epoch": "epochs", "loss spike": "loss spikes",
}  # fmt: skip

_NOUNS = "text|seed|epoch|run|step|layer|class|strateg|token|trial|update|core|process"


@pytest.mark.parametrize(("one", "many"), NOUNS.items())
def test_counted(one: str, many: str) -> None:
    assert counted(1, one) == f"1 {one}"
    assert [counted(number, one) for number in (0, 2, 21, 1001)] == [f"{n} {many}" for n in ("0", "2", "21", "1,001")]


def test_nothing_that_people_read_says_1_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of everything that there may be one of: strategy, seed, epoch, step, layer, test text, row."""
    output, run = tmp_path / "out", str(tmp_path / "out" / "head" / "seed-42")
    body = json.dumps({**BODY, "n_layer": 1})
    flags = ("--strategy", "head", "--train.runs", 1, "--train.epochs", 1, "--pretrain.epochs", 1)
    sizes = ("--data.limit_test", 1, "--train.batch_size", 128, "--train.cache_frozen", "on")
    assert main(small(output, "--model.from_config", body, *flags, *sizes)) == 0
    assert main(["--list_strategies", "--model.from_config", body, "--train.epochs", "1"]) == 0
    (file := tmp_path / "one.csv").write_text("text,label\nshares rise,0\n")
    assert predict.main([run, "--file", str(file), "--out", str(tmp_path / "answers.csv"), "--prefix", "my_"]) == 0
    assert evaluate.main([run, "--data", str(file)]) == 0
    assert export.main([run, "--to", "hf", str(tmp_path / "exported")]) == 0
    shown = "\n".join(capsys.readouterr())
    pages = [(output / "report.md").read_text(), (tmp_path / "exported" / "README.md").read_text()]
    for text in (shown, *pages):
        assert re.search(r"(?<![\d.,])1 (text|test text|seed|epoch|strategy|layer)\b", text)
        assert not re.findall(rf"(?<![\d.,])1 (?:\w+ )?(?:{_NOUNS})(?:s|es|ies)\b", text)
