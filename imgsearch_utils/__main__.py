"""The `imgsearch` command, before anything is loaded: Ctrl-C ends it quietly at any moment."""

import sys


def main() -> None:
    """Run the command; 130 is the usual exit status of what Ctrl-C stopped."""
    try:
        from imgsearch_utils.cli import entry

        entry()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
