"""Lets `python -m batchhess` run the command line."""

import sys

from batchhess.cli import main

sys.exit(main())
