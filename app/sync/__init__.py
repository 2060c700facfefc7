"""The verbs; each file is one story, read top to bottom."""
