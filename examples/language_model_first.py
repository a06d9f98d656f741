"""Adapts the body to the training texts as a language model before fine-tuning, and compares with leaving that out.

python examples/language_model_first.py            # GPT-2 and AG News from the hub
python examples/language_model_first.py --small    # seconds, offline: a tiny random GPT-2 on generated texts
"""

import argparse

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--small", action="store_true", help="a tiny model and few texts")
small = parser.parse_args().small

config = fa.Config(model=fa.ModelConfig(name="gpt2"), data=fa.DataConfig(source="fancyzhx/ag_news"))
if small:
    body = {"vocab_size": 400, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config.model = fa.ModelConfig(from_config=body)
    config.data = fa.DataConfig(source="builtin", max_length=48, limit_train=100, limit_test=60)

strategy = fa.head()  # the body stays as language modelling leaves it
shapes = 1 if small else 6  # batch shapes to compile: fewer compile faster, with more padding
for epochs in (0, 1):
    # Only training texts are read, and no labels. The adapted body is cached for later experiments.
    config.pretrain = fa.PretrainConfig(epochs=epochs, learning_rate=3e-3 if small else 5e-5)
    result = fa.fit(strategy, config=config, seed=0, epochs=1, batch_size=32, shapes=shapes)
    print(f"{epochs} epochs of language modelling: test accuracy {result.test.accuracy:.3f}")
