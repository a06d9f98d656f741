"""Classifies pairs of texts: does the second follow from the first?

python examples/sentence_pairs.py            # GPT-2 and RTE (of GLUE) from the hub
python examples/sentence_pairs.py --small    # writes a folder of pairs first; seconds, offline
"""

import argparse
import csv
import random
from pathlib import Path

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--small", action="store_true", help="write a folder of pairs, and use a tiny model")
small = parser.parse_args().small


def write_pairs(folder: Path) -> None:
    """Writes train.csv and test.csv: premise, hypothesis, and whether it follows."""
    draw = random.Random(0)
    animals, places = ["dog", "cat", "horse", "bird"], ["garden", "kitchen", "street", "park"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 240), ("test", 60)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["sentence1", "sentence2", "label"])
            for _ in range(count):
                (animal, other), place = draw.sample(animals, 2), draw.choice(places)
                follows = draw.random() < 0.5
                claimed = animal if follows else other
                label = "follows" if follows else "doesn't follow"
                table.writerow([f"A {animal} sleeps in the {place}.", f"There is a {claimed}.", label])


model = fa.ModelConfig(name="gpt2")
data = fa.DataConfig(
    source="nyu-mll/glue",
    config="rte",
    text_column=["sentence1", "sentence2"],  # two columns: each text is a pair
    test_split="validation",  # GLUE's test split has no labels
)
if small:
    write_pairs(Path("pairs"))
    data = fa.DataConfig(source="pairs", text_column=["sentence1", "sentence2"], max_length=64)
    model = fa.ModelConfig(from_config={"vocab_size": 400, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2})

result = fa.fit(
    "full",
    data=data,
    model=model,
    epochs=1 if small else 3,
    batch_size=32,
    schedule="linear",
)
print(f"test accuracy {result.test.accuracy:.3f}; classes: {result.classes}")

pairs = [("A dog sleeps in the park.", "There is a dog."), ("A dog sleeps in the park.", "There is a cat.")]
answers = result.classifier.predict(pairs)
for (premise, hypothesis), label in zip(pairs, answers.labels, strict=True):
    print(f"{premise}  {hypothesis}  -> {label}")
