"""What the command line takes. TensorFlow is not needed to tell."""

import argparse
import re

import batchhess

# What errors of the library say, and how it is said here.
_OPTIONS = {
    r"resume=True": r"--resume",
    r"header=True": r"--header yes",
    r"header=False": r"--header no",
    r"on_nonfinite='keep'": r"--on-nonfinite keep",
    r"method='(\w+)'": r"--method \1",
    r"method=(\w+)": r"--method \1",
    r",? or (?:pass )?check='never'[^.]*": r"",
    r"and batch_size is (\d+): they must be equal": r"and \1 are run at a time: pass "
    r"--batch-size with their number",
    r" Pass unconnected_gradients=[\w.]+ for zeros\.": r"",
    r"evaluate: ": r"",
}


def in_options(text):
    """What is told of arguments of functions, told of options of the command line."""
    for word, option in _OPTIONS.items():
        text = re.sub(word, option, text)
    return text


def parse(arguments=None):
    """The options of a command line, with what goes on to Beam as `others`.

    Args:
      arguments: list of str; those of the process if None.

    Returns:
      argparse.Namespace; None if there is no command, and help was printed.
    """
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if others and not getattr(options, "runner", None):
        parser.error("unrecognized arguments: {}".format(" ".join(others)))
    if options.command is None:
        parser.print_help()
        return None
    options.others = others
    return options


class _Extend(argparse.Action):
    """Adds to what an option that is given twice was given before."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, before + values)


def _parser():
    parser = argparse.ArgumentParser(
        prog="batchhess",
        description="Per-observation Hessians for TensorFlow 1 graphs.",
        epilog="Exit codes: 0 well, 1 could not be done, 2 not understood, 3 verify "
        "found an error, 130 stopped, 141 stopped since nobody reads what it prints.",
    )
    parser.add_argument(
        "--version", action="version", version="batchhess " + batchhess.__version__
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    _demo(commands)
    model, tensors, data = _model(), _tensors(), _data()
    commands.add_parser(
        "inspect", parents=[model], help="list what a model takes, gives and holds"
    )
    commands.add_parser(
        "explain",
        parents=[model, tensors],
        help="tell what the graph proves, which method is taken and what it costs",
    )
    _sample(
        commands.add_parser(
            "verify",
            parents=[model, tensors, data],
            help="hold the Hessians against differences of the gradient",
        )
    )
    exporter = commands.add_parser(
        "export",
        parents=[model, tensors],
        help="write a SavedModel that answers gradients and Hessians too",
    )
    _method(exporter)
    exporter.add_argument("--out", required=True, metavar="DIRECTORY")
    run = commands.add_parser(
        "run",
        parents=[model, tensors, data],
        help="compute the Hessians of all observations, batch by batch, into files",
    )
    _running(run)
    return parser


def _demo(commands):
    demo = commands.add_parser(
        "demo", help="train on Fisher's iris, print Hessians, meet the N squared wall"
    )
    demo.add_argument(
        "--sizes",
        type=_positive,
        nargs="+",
        metavar="N",
        help="the numbers of observations to measure",
    )


def _shape(text):
    """A pair of a name and a list of int, or None, from "x=?,3"."""
    name, separator, sizes = text.partition("=")
    try:
        if not separator or not name:
            raise ValueError
        return name, [None if s == "?" else int(s) for s in sizes.split(",") if s]
    except ValueError:
        raise argparse.ArgumentTypeError("{!r} is not NAME=?,3".format(text)) from None


def _model():
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "model",
        help="a .meta file, the directory of a SavedModel, or a .pb or .pbtxt file",
    )
    model.add_argument(
        "--checkpoint",
        metavar="PREFIX",
        help="of the variables' values (default: what is beside the model)",
    )
    model.add_argument(
        "--tags",
        nargs="+",
        action=_Extend,
        metavar="TAG",
        help="which graph of a SavedModel",
    )
    model.add_argument(
        "--signature",
        metavar="KEY",
        help="of which signature keys name tensors (default: any; serving_default "
        "where a key has several meanings)",
    )
    model.add_argument(
        "--shape",
        nargs="+",
        action=_Extend,
        type=_shape,
        default=[],
        metavar="NAME=?,3",
        help="the shape of a placeholder that the model leaves open, ? for what is",
    )
    model.add_argument(
        "--initialize",
        action="store_true",
        help="fresh variables where the model has no checkpoint",
    )
    model.add_argument(
        "--allow-effects",
        action="store_true",
        help="let the model reach files, processes and the network: if you trust it",
    )
    return model


def _tensors():
    tensors = argparse.ArgumentParser(add_help=False)
    known = "such as f:0 or f, or keys of a signature"
    for name, what in (
        ("--ys", "what is differentiated, {}; of several it is their sum"),
        ("--xs", "by what it is differentiated, {}"),
    ):
        tensors.add_argument(
            name,
            nargs="+",
            action=_Extend,
            required=True,
            metavar="NAME",
            help=what.format(known),
        )
    tensors.add_argument(
        "--batch-axis",
        type=int,
        default=0,
        metavar="AXIS",
        help="the axis of observations in the xs and what goes with them, but what has "
        "one axis only; a negative one is counted from the end (default: %(default)s)",
    )
    return tensors


def _data():
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--feed",
        nargs="+",
        action=_Extend,
        type=_feed,
        default=[],
        metavar="NAME=FILE[:COLUMNS]",
        help="a .npy, .npz, .csv, .tfrecord or .parquet file, or a number, for each "
        "placeholder; a number for one that --batched names goes to each observation",
    )
    data.add_argument(
        "--header",
        choices=["yes", "no"],
        help="whether the first row of .csv files holds names (default: if its cells "
        "are different words, none of them a number or a word for a missing value; "
        "what is neither that nor numbers is an error, and 0,1,2 too)",
    )
    data.add_argument(
        "--batched",
        nargs="+",
        action=_Extend,
        metavar="NAME",
        help="placeholders with observations beside the xs, on the batch axis, or on "
        "the only one that they have; all others are fed whole (default: what is fed "
        "with as many rows as x where the graph leaves their number open)",
    )
    _method(data)
    return data


def _method(parser):
    parser.add_argument(
        "--method",
        default="auto",
        help="as in batchhess.hessians (default: %(default)s)",
    )


def _sample(verify):
    verify.add_argument(
        "--sample",
        type=_positive,
        metavar="N",
        help="how many observations, from all over the data (default: 1000, or what "
        "is well below 1 GB of Hessians)",
    )


def _running(run):
    run.add_argument("--out", required=True, metavar="DIRECTORY")
    run.add_argument(
        "--answer",
        choices=["hessians", "diagonals", "laplacians"],
        default="hessians",
        help="what to compute (default: %(default)s)",
    )
    run.add_argument("--batch-size", type=_positive, default=1024, metavar="N")
    run.add_argument(
        "--verify",
        action="store_true",
        help="first hold a sample against differences, as verify does; and what is "
        "written against that",
    )
    run.set_defaults(sample=None)
    run.add_argument(
        "--resume", action="store_true", help="go on with what is in the directory"
    )
    run.add_argument(
        "--on-nonfinite",
        choices=["error", "keep"],
        default="error",
        help="what to do about NaN and Inf in data or results (default: %(default)s)",
    )
    run.add_argument(
        "--runner",
        help="run by Apache Beam: DirectRunner, FlinkRunner, SparkRunner or "
        "DataflowRunner; options that are not listed here go to Beam",
    )


def _feed(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("{!r} is not NAME=FILE".format(text))
    return name, value


def _positive(text):
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError("{!r} is no number".format(text)) from None
    if count < 1:
        raise argparse.ArgumentTypeError("N must be at least 1, not {}".format(count))
    return count
