"""A local Close, after https://developer.close.com/api/overview."""

from sandbox.close import events, objects, search, setup  # the routes

__all__ = ["events", "objects", "search", "setup"]
