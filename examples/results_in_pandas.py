"""Reads an output folder into pandas: mean and deviation of accuracies, accuracy by epoch, and all runs.

python examples/results_in_pandas.py runs/quickstart
"""

import argparse

import flax_agnews as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", help="output folder of a comparison")
folder = parser.parse_args().folder

results = fa.load_results(folder)

print("Test accuracy by strategy")
accuracy = results.runs.groupby("strategy")["test_accuracy"]
print(accuracy.agg(["mean", "std", "count"]).sort_values("mean", ascending=False).round(3))

print("\nValidation accuracy by epoch, mean of the seeds")
print(results.epochs.pivot_table(index="epoch", columns="strategy", values="val_accuracy").round(3))

print("\nEach run, best first")
print(results.runs.sort_values("test_accuracy", ascending=False)[["strategy", "seed", "test_accuracy"]].to_string())
