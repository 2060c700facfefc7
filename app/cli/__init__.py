"""The `syncline` command.

Exit codes: 0 done; 1 refused, or some of the work failed; 2 wrong usage or configuration;
3 the service, or its database, is away; 130 interrupted.
"""

from app.cli.commands import app, main

__all__ = ["app", "main"]
