"""One folder per system; each imports app.sdk and nothing else of ours."""
