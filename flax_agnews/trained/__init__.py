"""Finished runs as classifiers: loads them, classifies texts, evaluates on labelled texts, saves and exports."""
