"""Local CRMs that behave, lag and fail like the real ones. Run ``python -m sandbox``.

A vendor is a class that turns a `Call` into an `Answer` (`wire.py`) and keeps its records
in a `Store` that remembers every value (`records.py`). `front.py` puts the vendors on one
port and adds faults and the call log; `webhooks.py` delivers what the vendors announce.
Nothing here is imported by the service, and nothing here imports it.
"""
