"""The HTTP edge: the webhook front and the REST API. Nothing is decided here."""
