"""Words that YAML 1.1 reads as truth values."""

WORDS = sorted({case for word in ("off", "on", "no", "yes") for case in (word, word.title(), word.upper())})
