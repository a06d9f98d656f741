"""Sends a finished comparison to the trackers that are on: its tables, its picture, its report and its predictions."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.experiment.outputs import Outputs
from flax_agnews.metrics.trackers import Tracker
from flax_agnews.report.answer import Answer, read_answer
from flax_agnews.report.html.from_answer import PAGE, write_page
from flax_agnews.report.tracked import answer_table, prediction_table, runs_table
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.texts_file import read_texts
from flax_agnews.system.files import read_json, write_json


def publish(outputs: Outputs, figure: Path, order: Sequence[str], answer: Answer | None = None) -> None:
    """Sends the comparison to TensorBoard, and to W&B unless it has the same runs and page already.

    Args:
        outputs: opens the trackers of the experiment.
        figure: a PNG file.
        order: names of the strategies, in the order of the table of runs.
        answer: what the runs say; read from the folder where it isn't known.
    """
    folder = outputs.folder.path
    columns, rows = runs_table(outputs.folder.finished(order))
    done = folder / "wandb" / "published.json"
    mark = {
        "runs": sorted(rows, key=lambda row: row[:2]),
        "predictions": outputs.config.tracking.predictions,
        "page": _hash(folder / PAGE),
    }
    board = outputs.tensorboard(folder)
    upload = None if _read(done) == mark else outputs.wandb("comparison", "comparison", folder)
    if board is None and upload is None:
        return
    answer = answer or read_answer(folder, read_results(folder))
    for tracker in (board, upload):
        if tracker:
            tracker.table("final", *answer_table(answer))
            tracker.table("results", columns, rows)
            tracker.figure(figure.stem, figure)
    if board:
        board.finish()
    if upload:
        if files := _report(answer, outputs):
            upload.files("report", files)
        if outputs.config.tracking.predictions:
            _send_predictions(upload, answer, outputs)
        if upload.finish():
            with suppress(UserError):  # a full disk: the experiment is finished anyway
                write_json(done, mark)


def _report(answer: Answer, outputs: Outputs) -> list[Path]:
    """The report's pages that are there; texts leave the machine only where `tracking.predictions` asks for it."""
    folder = outputs.folder.path
    found = [folder / name for name in (PAGE, "report.md") if (folder / name).is_file()]
    if not outputs.config.tracking.predictions and folder / PAGE in found:
        found[0] = write_page(answer, folder, folder / "wandb", with_texts=False)
    return found


def _send_predictions(tracker: Tracker, answer: Answer, outputs: Outputs) -> None:
    """Sends the predictions of the test texts, a table for each strategy."""
    contents = None
    if outputs.config.report.texts != "none":
        try:
            texts = read_texts(outputs.folder.path)
            contents = texts["test"].texts if texts else None
        except UserError as error:
            outputs.display.note(f"{error}; the predictions are sent without texts")
    for name in answer.evidence.runs:
        tracker.table(f"predictions/{name}", *prediction_table(answer.evidence, name, contents))


def _hash(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _read(path: Path) -> Mapping[str, Any] | None:
    """What was sent before; None where nothing was, or the file is damaged."""
    with suppress(UserError):
        return read_json(path)
    return None
