"""The command line: python -m batchhess demo | explain | verify | run."""

import argparse
import contextlib
import sys

import numpy as np

from batchhess import demo
from batchhess.compat import tf
from batchhess.explanation import explain
from batchhess.operators import hessian_diagonals, hessians, laplacians
from batchhess.streaming import evaluate
from batchhess.verification import compute_hessian_error

_ANSWERS = {
    "hessians": hessians,
    "diagonals": hessian_diagonals,
    "laplacians": laplacians,
}

_ERRORS = (
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)

# The relative error that right Hessians stay below.
_RIGHT = {"float32": 1e-2, "float64": 1e-6}


def main(arguments=None):
    """Runs the command that `arguments` (those of the process if None) name.

    Returns:
      int, the exit status: 0 if all is well, 1 if not, 2 if the command is not known.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return options.run(options)
    except _ERRORS as error:
        print("{}: {}".format(type(error).__name__, error), file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m batchhess",
        description="Per-observation Hessians for TensorFlow 1 graphs.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")

    demo_parser = commands.add_parser(
        "demo",
        help="train on Fisher's iris, print Hessians, meet the N squared wall",
    )
    demo_parser.set_defaults(run=_demo)
    demo_parser.add_argument(
        "--sizes",
        type=_observations,
        nargs="+",
        default=demo.SIZES,
        metavar="N",
        help="the numbers of observations to measure (default: %(default)s)",
    )

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument(
        "meta", help="a graph as tf.train.export_meta_graph and Saver.save write it"
    )
    model.add_argument(
        "--ys", nargs="+", required=True, metavar="NAME", help="tensors, such as f:0"
    )
    model.add_argument("--xs", nargs="+", required=True, metavar="NAME")
    model.add_argument("--batch-axis", type=int, default=0, metavar="AXIS")

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--feed",
        nargs="+",
        type=_feed,
        default=[],
        metavar="NAME=FILE",
        help="an .npy file, or a number, for each placeholder",
    )
    data.add_argument(
        "--checkpoint",
        help="the prefix to restore variables from; else they are initialized",
    )
    data.add_argument(
        "--method",
        default="auto",
        help="as in batchhess.hessians (default: %(default)s)",
    )

    explain_parser = commands.add_parser(
        "explain",
        parents=[model],
        help="tell what the graph proves, which method is taken and what it costs",
    )
    explain_parser.set_defaults(run=_explain)

    verify_parser = commands.add_parser(
        "verify",
        parents=[model, data],
        help="hold the Hessians against differences of the gradient",
    )
    verify_parser.set_defaults(run=_verify)

    run_parser = commands.add_parser(
        "run",
        parents=[model, data],
        help="compute the Hessians of all observations, batch by batch, into files",
    )
    run_parser.set_defaults(run=_run)
    run_parser.add_argument("--out", required=True, metavar="DIRECTORY")
    run_parser.add_argument(
        "--answer", choices=sorted(_ANSWERS), default="hessians", help="what to compute"
    )
    run_parser.add_argument(
        "--batched",
        nargs="+",
        metavar="NAME",
        help="placeholders with the observations on the batch axis (default: the xs)",
    )
    run_parser.add_argument("--batch-size", type=_observations, default=1024)
    run_parser.add_argument(
        "--resume", action="store_true", help="go on with what is in the directory"
    )
    return parser


def _demo(options):
    demo.run(sizes=options.sizes)
    return 0


def _explain(options):
    with tf.Graph().as_default():
        _, ys, xs = _imported(options)
        for answer in explain(ys, xs, batch_axis=options.batch_axis):
            print(answer)
            print()
    return 0


def _verify(options):
    with _loaded(options) as (session, ys, xs):
        error = compute_hessian_error(
            ys,
            xs,
            dict(options.feed),
            session,
            batch_axis=options.batch_axis,
            method=options.method,
        )
        limit = max(_RIGHT.get(x.dtype.base_dtype.name, 0.2) for x in xs)
    if error == 0:
        print("no error beyond rounding")
    else:
        print(
            "largest relative error: {:.2g}, of '{}' at observation {}".format(
                float(error), error.x, error.observation
            )
        )
    print("right" if error <= limit else "wrong: above {:.0e}".format(limit))
    return 0 if error <= limit else 1


def _run(options):
    with _loaded(options) as (session, ys, xs):
        answers = _ANSWERS[options.answer](
            ys, xs, batch_axis=options.batch_axis, method=options.method
        )
        names = options.batched or [x.name for x in xs]
        evaluate(
            session,
            answers,
            dict(options.feed),
            dict.fromkeys(names, options.batch_axis),
            batch_size=options.batch_size,
            out=options.out,
            resume=options.resume,
            progress=lambda done, count: print("{:,} of {:,}".format(done, count)),
        )
    print("written to", options.out)
    return 0


def _imported(options):
    """The Saver of the graph, or None, and its ys and xs."""
    saver = tf.train.import_meta_graph(options.meta)
    graph = tf.get_default_graph()
    ys, xs = (
        [graph.get_tensor_by_name(name) for name in names]
        for names in (options.ys, options.xs)
    )
    return saver, ys, xs


@contextlib.contextmanager
def _loaded(options):
    """A Session on the graph, its variables restored or initialized."""
    with tf.Graph().as_default(), tf.Session() as session:
        saver, ys, xs = _imported(options)
        if options.checkpoint is None:
            session.run(tf.global_variables_initializer())
        else:
            (saver or tf.train.Saver()).restore(session, options.checkpoint)
        yield session, ys, xs


def _feed(text):
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("{!r} is not NAME=FILE".format(text))
    try:
        return name, float(value)
    except ValueError:
        pass
    try:
        return name, np.load(value, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError("{}: {}".format(value, error)) from None


def _observations(text):
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("N must be at least 1, not {}".format(count))
    return count
