"""Where memory runs out, the error names the settings that take it."""

import pytest

from flax_agnews.config import Config, PretrainConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.training.memory import out_of_memory


def test_too_little_memory_names_what_language_modelling_reads() -> None:
    config = Config(pretrain=PretrainConfig(batch_size=48), train=TrainConfig(batch_size=7, micro_batch_tokens=1))
    with pytest.raises(UserError) as caught, out_of_memory(config.train, config.pretrain.batch_size):
        raise MemoryError
    assert "48 texts, 1 token at once" in caught.value.with_flags
    assert "--train.micro_batch_tokens" in caught.value.with_flags
    assert "parallel_seeds" not in caught.value.with_flags
