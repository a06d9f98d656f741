"""Trains on a CSV file with named classes, prints the accuracy of each class, and classifies new texts.

python examples/own_csv.py tickets.csv --text_column message --label_column team
python examples/own_csv.py --small    # writes a small tickets.csv first; seconds, offline
"""

import argparse
import csv
import random
from pathlib import Path

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("file", nargs="?", default="tickets.csv", help="CSV file with a header line")
parser.add_argument("--text_column", default="message")
parser.add_argument("--label_column", default="team")
parser.add_argument("--output", default="runs/tickets")
parser.add_argument("--small", action="store_true", help="write a small CSV file, and use a tiny model")
options = parser.parse_args()


def write_tickets(file: Path) -> None:
    """Writes 240 support tickets of three teams."""
    words = {
        "billing": ["invoice", "refund", "charged twice", "payment"],
        "accounts": ["password", "login", "locked out", "email address"],
        "shipping": ["parcel", "delivery", "tracking number", "courier"],
    }
    draw = random.Random(0)
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["message", "team"])
        for number in range(240):
            team = draw.choice(list(words))
            first, second = draw.sample(words[team], 2)
            table.writerow([f"Hello, about my {first}: the {second} is wrong. Order {number}.", team])


model = fa.ModelConfig(name="gpt2")
if options.small:
    write_tickets(Path(options.file))
    model = fa.ModelConfig(from_config={"vocab_size": 400, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 2})

data = fa.DataConfig(
    source=options.file,
    text_column=options.text_column,
    label_column=options.label_column,
    test_fraction=0.2,  # a fifth of the rows is the test split, since there is only one file
    max_length=64,
)
result = fa.fit(
    fa.full(learning_rate=3e-3) if options.small else "full",
    data=data,
    model=model,
    output=options.output,  # the run is saved: a second call continues it, or reads its result
    epochs=3,
    batch_size=16,
    class_weights="balanced",  # rare classes count as much as frequent ones
)

print(f"test accuracy {result.test.accuracy:.3f}, macro-F1 {result.test.macro_f1:.3f}")
for name, row in zip(result.classes, result.test.confusion, strict=True):
    print(f"{name:>12}: {row[result.classes.index(name)]} of {sum(row)} right")

answers = result.classifier.predict(["Where is my parcel?", "I was charged twice"])
print(answers.labels, answers.probabilities.max(axis=1).round(3))
