"""In: what is typed behind `imgsearch`. Out: thin calls into the other rooms.

An error of use is one clear line and exit status 1.
"""

import sys


def entry() -> None:
    """Run the command; Ctrl-C ends it quietly at any moment, also while it is loaded (130 is its usual status)."""
    try:
        from imgsearch_utils.cli.commands import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
