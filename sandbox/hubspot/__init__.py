"""A local HubSpot, after https://developers.hubspot.com/docs/api-reference/latest/overview."""

from sandbox.hubspot import associations, batches, objects, search, setup  # the routes

__all__ = ["associations", "batches", "objects", "search", "setup"]
