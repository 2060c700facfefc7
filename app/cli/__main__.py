"""`python -m app.cli`: the same as `syncline`."""

from app.cli.commands import main

main()
