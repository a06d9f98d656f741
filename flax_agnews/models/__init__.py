"""GPT-2's body, the classifier on it, and their weights on disk."""
