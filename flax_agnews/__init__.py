"""Fine-tune GPT-2 for text classification by several strategies, and compare them fairly."""

__version__ = "0.1.0"
