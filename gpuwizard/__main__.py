"""`python -m gpuwizard`."""

import sys

from gpuwizard.cli import main

if __name__ == "__main__":
    sys.exit(main())
