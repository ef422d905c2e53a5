"""``python -m palimpsest``, and the command of that name. Imports nothing before an interruption can be heard."""

import os
import sys


def start() -> int:
    """Run the command line of this process.

    Returns:
        Its exit code.
    """
    try:
        from palimpsest.cli import main

        return main()
    except KeyboardInterrupt:  # while it was imported: there is nothing yet that could say more
        os.write(2, b"palimpsest: interrupted before anything was written\n")
        return 130


if __name__ == "__main__":
    sys.exit(start())
