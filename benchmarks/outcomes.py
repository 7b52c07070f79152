"""What TensorFlow and batchhess answer where second derivatives go wrong: a table.

Run: python benchmarks/outcomes.py [--out FILE]
"""

import argparse
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests"))

import numpy as np

import batchhess
from batchhess.compat import VERSION, batch_jacobian, tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.FATAL)

import test_second_order_facts as facts  # noqa: E402
from oracles import difference_blocks, run, sliced_hessians  # noqa: E402

REFUSALS = (
    batchhess.SecondDerivativeError,
    tf.errors.OpError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


def by_tf_hessians(y, x, value):
    return sliced_hessians(y, x, {x: value})


def by_batch_jacobian(y, x, value):
    return run(batch_jacobian(tf.gradients(y, x)[0], x), {x: value})


def by_batchhess(y, x, value):
    return run(batchhess.hessians(y, x)[0], {x: value})


def outcome(build, way, value, expected):
    """What came of it: "right", "wrong by ...", or the name of the error."""
    tf.disable_control_flow_v2()
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float64, (None, 3))
        try:
            result = way(build(x), x, value)
        except REFUSALS as error:
            refused = way is by_batchhess
            return ("refused: " if refused else "") + type(error).__name__
    error = np.abs(result - expected).max()
    if np.isnan(error):
        return "NaN"
    right = error <= 1e-2 * np.abs(expected).max() + 1e-6
    return "right" if right else "**wrong by {:.2g}**".format(error)


# Rows that have no one right answer, or whose gradient TensorFlow loses already.
WITHOUT_TRUTH = ("betainc", "random")


# Rows that work in float32.
SINGLE = set(facts.UNDEFINED) | {"resize_bilinear"}


def tables():
    """Lists of (title, rows, the x at which they are evaluated)."""
    at_zero = facts.ROWS.copy()
    at_zero[1, 1] = 0
    refused = {
        row: build
        for row, (build, _) in list(facts.REFUSED.items())
        + sorted(facts.UNDEFINED.items())
        if not any(name in row for name in WITHOUT_TRUTH)
    }
    refused["resize_bilinear"] = facts.LOST["6 resize_bilinear"]
    lost = {row: facts.RIGHT[row] for row in facts.RIGHT if row[0].isdigit()}
    others = {row: facts.RIGHT[row] for row in facts.RIGHT if row not in lost}
    return [
        ("Loops of control flow v1", facts.V1, facts.ROWS),
        ("Parts that TensorFlow takes for constant", lost, facts.ROWS),
        ("Products with a zero", facts.PRODUCTS, at_zero),
        ("Coupled observations", facts.COUPLED, facts.FOUR_ROWS),
        ("Ops without a second derivative", refused, facts.ROWS),
        ("The same in a form that is sound, and others", others, facts.ROWS),
    ]


def cells_of(table, row, value):
    """The largest true entry, and the outcomes by the three ways."""
    with tf.Graph().as_default():
        tf.disable_control_flow_v2()
        x = tf.placeholder(tf.float64, (None, 3))
        # What works in float32 needs longer steps.
        step = 5e-2 if "norm in" in row or row in SINGLE else 1e-3
        if table is facts.PRODUCTS:  # At zeros the gradient is wrong too.
            expected = facts.product_blocks(row, value)
        else:
            expected = difference_blocks(table[row](x), x, value, step=step)
    largest = np.abs(expected).max()
    # Differences of a zero are not zero, but far below any that is none.
    told = "0" if largest < 1e-9 else "{:.3g}".format(largest)
    return [told] + [
        outcome(table[row], way, value, expected)
        for way in (by_tf_hessians, by_batch_jacobian, by_batchhess)
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=argparse.FileType("w"), default=sys.stdout)
    out = parser.parse_args().out
    del sys.argv[1:]  # TensorFlow 1.15 reads it too, for flags of its own.
    print("# Second derivatives, TensorFlow {}\n".format(VERSION), file=out)
    print(
        "Made by `python benchmarks/outcomes.py`, under control flow v1. Errors are "
        "the largest in absolute value.\nThe truth is of central differences of the "
        "gradient, in float64.",
        file=out,
    )
    head = ["row", "f contains", "largest true entry", "`tf.hessians`, sliced"]
    head += ["`batch_jacobian`", "`batchhess`"]
    number = 0
    for title, table, value in tables():
        print("\n## {}\n".format(title), file=out)
        print("| {} |\n{}|".format(" | ".join(head), "|---" * 6), file=out)
        for row in sorted(table, key=name_of):
            number += 1
            cells = [str(number), name_of(row)] + cells_of(table, row, value)
            print("| {} |".format(" | ".join(cells)), file=out, flush=True)


def name_of(row):
    """A row's name, without the number of the fact that it is from."""
    return re.sub(r"^\d+\w? ", "", row)


if __name__ == "__main__":
    main()
