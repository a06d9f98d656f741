"""Numbers about answers, what they can say, and where they are written."""
