"""A linear probe as a reference: logistic regression on what the frozen body makes of each text's last token.

Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes"
(https://arxiv.org/abs/1610.01644). It is made where a strategy leaves the whole body as it is, so that these vectors
are cached anyway, and says what fine-tuning adds to the body's own features.
"""

import time

import numpy as np

from flax_agnews.experiment.data_files import keep
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.reference import Hashes, key_of, regression
from flax_agnews.runs.predictions import Predictions, SplitPredictions
from flax_agnews.runs.references import PROBE, Reference
from flax_agnews.training.program import Inputs

STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""Values of C on standardised features, tried in this order until the validation loss rises."""

_MOST = 5e9  # training rows x width x classes: up to here it takes a minute


def write_probe(made: Prepared, inputs: Inputs) -> None:
    """Writes the probe into the output folder, if the cached vectors of a strategy are those of the whole body."""
    data, vectors = made.data, inputs.batches.data
    whole = vectors.depth == made.base.config.n_layer
    work = len(data.train) * made.base.config.n_embd * len(data.classes)
    wanted = made.config.report.reference != "none" and made.folder.writes_runs and not made.devices.several
    if not (whole and wanted) or work > _MOST or len(np.unique(data.train.labels)) < 2:
        return
    hashes, model = Hashes.of(data), made.config.model
    rounded = "" if model.precision == "default" else f" {model.precision}"  # earlier versions had no other
    key = key_of(f"{PROBE} {made.base.hash} {model.dtype}{rounded}", data.classes, hashes)
    with made.display.busy("computing the reference, a linear probe"):
        keep(made.folder.path, PROBE, key, lambda: probe(made, inputs, key))


def probe(made: Prepared, inputs: Inputs, key: str) -> Reference | None:
    """The probe of a body's cached vectors; None after a signal."""
    from threadpoolctl import threadpool_limits  # slow to import with scikit-learn, whose dependency it is

    started, data = time.perf_counter(), made.data
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    cached = {"train": inputs.batches.data} | {name: of.data for name, of in inputs.evaluated.items()}
    vectors = {name: np.asarray(cached[name].ids, np.float64) for name in splits}
    mean, sd = vectors["train"].mean(axis=0), vectors["train"].std(axis=0)
    features = {name: (values - mean) / np.where(sd > 0, sd, 1) for name, values in vectors.items()}
    labels = {name: split.labels for name, split in splits.items()}

    def stop() -> bool:
        return bool(made.interrupt.asked)

    with threadpool_limits(1):  # the same bits on any number of cores
        found = regression(features, labels, len(data.classes), STRENGTHS, "lbfgs", stop)
    if found is None:
        return None
    parts = {
        name: SplitPredictions(splits[name].hash, labels[name], answers.astype(np.float32))
        for name, answers in found.answers.items()
    }
    return Reference(
        key=key,
        seconds=time.perf_counter() - started,
        parameters=found.parameters,
        settings={"C": found.strength},
        tried=found.tried,
        predictions=Predictions(data.classes, parts),
    )
