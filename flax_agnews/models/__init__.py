"""GPT-2, the text classifier built on it, and the files of their weights."""
