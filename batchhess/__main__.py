"""Lets `python -m batchhess` run the command line."""

import sys

from batchhess.cli import main

if __name__ == "__main__":
    sys.exit(main())
