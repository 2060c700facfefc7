"""A local Close, after https://developer.close.com/api/overview."""

from sandbox.close import activities, events, objects, search, setup, tasks  # the routes

__all__ = ["activities", "events", "objects", "search", "setup", "tasks"]
