"""`python -m bench`: the ingest benchmark."""

from bench.ingest import main

main()
