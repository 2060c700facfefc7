"""The worker: claims lanes, runs their verb, gives them back."""
