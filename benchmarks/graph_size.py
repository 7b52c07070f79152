"""How the graph grows with K: ops and build time of each way to the Hessians.

Run: python benchmarks/graph_size.py
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import batchhess
from batchhess.compat import VERSION, tf

REPEATS = 5


def columns_unrolled(y, x):
    """What users write by hand: K calls of tf.gradients."""
    (gradient,) = tf.gradients(y, x)
    return [tf.gradients(gradient[:, k], x)[0] for k in range(int(x.shape[1]))]


WAYS = [
    ("batchhess, columns", lambda y, x: batchhess.hessians(y, x, method="columns")),
    (
        "batchhess, observations",
        lambda y, x: batchhess.hessians(y, x, method="observations"),
    ),
    ("tf.hessians", tf.hessians),
    ("tf.gradients, K times", columns_unrolled),
]


def count_ops(graph):
    definition = graph.as_graph_def()
    functions = definition.library.function
    return len(definition.node) + sum(len(f.node_def) for f in functions)


def build(way, size):
    """Answers the ops that `way` adds to the graph, and the seconds it takes."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, (None, size))
        hidden = tf.tanh(tf.matmul(x, tf.ones([size, 256])))
        y = tf.reduce_sum(tf.tanh(tf.matmul(hidden, tf.ones([256, 1]))))
        before, start = count_ops(graph), time.time()
        way(y, x)
        seconds = time.time() - start
        return count_ops(graph) - before, seconds


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    tf.disable_eager_execution()
    print("TensorFlow {}, medians of {} builds".format(VERSION, REPEATS))
    print("| way | ops, K = 4 | ops, K = 512 | build, K = 4 | build, K = 512 |")
    print("|---|---|---|---|---|")
    for name, way in WAYS:
        cells = {4: [], 512: []}
        for size in cells:
            # The hand-written loop takes half a minute: once is enough.
            repeats = 1 if way is columns_unrolled and size == 512 else REPEATS
            build(way, 4)
            cells[size] = [build(way, size) for _ in range(repeats)]
        ops = [str(cells[size][0][0]) for size in cells]
        times = [
            "{:.3f} s".format(statistics.median(t for _, t in cells[size]))
            for size in cells
        ]
        print("| {} |".format(" | ".join([name] + ops + times)), flush=True)


if __name__ == "__main__":
    main()
