"""The command line: python -m batchhess demo."""

import argparse

from batchhess import demo


def main(arguments=None):
    """Runs the command that `arguments` (those of the process if None) name.

    Returns:
      int, the exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m batchhess",
        description="Per-observation Hessians for TensorFlow 1 graphs.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo_parser = commands.add_parser(
        "demo",
        help="train on Fisher's iris, print Hessians, meet the N squared wall",
    )
    demo_parser.add_argument(
        "--sizes",
        type=_observations,
        nargs="+",
        default=demo.SIZES,
        metavar="N",
        help="the numbers of observations to measure (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    demo.run(sizes=options.sizes)
    return 0


def _observations(text):
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("N must be at least 1, not {}".format(count))
    return count
