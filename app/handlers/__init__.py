"""The house handlers; users add modules of their own, or entry points."""
