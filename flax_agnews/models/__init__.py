"""GPT-2, the classifier on it, and their weights on disk."""
