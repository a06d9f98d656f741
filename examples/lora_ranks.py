"""Trains LoRA with several ranks, two seeds each, and plots accuracy by number of trained parameters.

python examples/lora_ranks.py            # GPT-2 and AG News from the hub
python examples/lora_ranks.py --small    # seconds, offline
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--small", action="store_true", help="a tiny model, few texts, two ranks, one seed")
parser.add_argument("--output", default="lora_ranks.png", help="file for the plot")
options = parser.parse_args()

model, data = fa.ModelConfig(name="gpt2"), fa.DataConfig(source="fancyzhx/ag_news")
ranks, seeds = [1, 2, 4, 8, 16, 32], [0, 1]
if options.small:
    model = fa.ModelConfig(from_config={"vocab_size": 400, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2})
    data = fa.DataConfig(source="builtin", max_length=48, limit_train=100, limit_test=60)
    ranks, seeds = [1, 4], [0]

accuracies = np.zeros((len(ranks), len(seeds)))
numbers = []
for i, rank in enumerate(ranks):
    strategy = fa.lora(rank=rank, alpha=rank)  # alpha = rank: the same scale for all
    numbers.append(fa.describe(strategy, model).trained)
    for j, seed in enumerate(seeds):
        result = fa.fit(strategy, data=data, model=model, seed=seed, epochs=1, batch_size=32)
        accuracies[i, j] = 100 * result.test.accuracy

figure, axes = plt.subplots(figsize=(7, 4.5))
axes.errorbar(numbers, accuracies.mean(axis=1), accuracies.std(axis=1), marker="o", capsize=3)
for rank, number, accuracy in zip(ranks, numbers, accuracies.mean(axis=1), strict=True):
    axes.annotate(f"rank {rank}", (number, accuracy), textcoords="offset points", xytext=(0, 10), ha="center")
axes.set(xscale="log", xlabel="trained parameters", ylabel="test accuracy (%)", title="LoRA: accuracy by rank")
axes.grid(alpha=0.3)
figure.savefig(options.output, dpi=150, bbox_inches="tight")
print(options.output)
