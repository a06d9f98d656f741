"""Finished runs as classifiers: loads them, answers texts, measures them on labelled texts, exports them."""
