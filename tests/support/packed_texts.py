"""The texts of a batch, and the texts that it should hold."""

import numpy as np
from hypothesis import strategies as st

from support import tiny

lengths_of_texts = st.lists(st.integers(1, tiny.LONGEST), min_size=1, max_size=40)


def texts_of(batch):
    """The (ids, label) of every text of a batch with leading axes [devices, micro_batches], by its number."""
    found = {}
    for device, micro in np.ndindex(batch.ids.shape[:2]):
        text, ids = batch.text[device, micro], batch.ids[device, micro]
        for slot in np.flatnonzero(batch.weight[device, micro]):
            number = int(batch.number[device, micro, slot])
            assert number not in found
            assert batch.last[device, micro, slot] == np.flatnonzero(text == slot)[-1]
            found[number] = (ids[text == slot].tolist(), int(batch.label[device, micro, slot]))
    return found


def expected(split, rows):
    return {n: (split.tokens[row].tolist(), int(split.labels[row])) for n, row in enumerate(rows)}
