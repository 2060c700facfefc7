"""`python -m app.cli.minded MODULE ARGUMENTS…`: run a module that ends when its parent does.

The parent holds the other end of our standard input; when that closes, however the parent
died, we get the SIGTERM it can no longer send.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _follow_the_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    module, *arguments = sys.argv[1:]
    threading.Thread(target=_follow_the_parent, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
