"""What the check of a graph that is not proven separable costs: ratios of run times.

Run: python benchmarks/check_cost.py
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import batchhess
from batchhess.compat import VERSION, tf

COUNT, WIDTH, REPEATS = 1024, 128, 15


def network(x, size):
    """A tanh network behind an op that has no rule: every row to its own place."""
    places = tf.range(tf.shape(x)[0])[:, None]
    h = tf.scatter_nd(places, x, tf.shape(x))
    random = np.random.RandomState(0)
    for rows, columns in ((size, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)):
        weights = (random.randn(rows, columns) / np.sqrt(rows)).astype(np.float32)
        h = tf.tanh(tf.matmul(h, tf.constant(weights)))
    return h


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    tf.disable_eager_execution()
    print("TensorFlow {}, N = {}, medians of {}".format(VERSION, COUNT, REPEATS))
    print('| K | passes | check="never" | check="auto" | check="always" |')
    print("|---|---|---|---|---|")
    for size in (1, 4, 16, 64):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, (None, size))
            y = network(x, size)
            ways = {
                check: batchhess.hessians(y, x, check=check)[0]
                for check in ("never", "auto", "always")
            }
            feed = {x: np.random.RandomState(1).randn(COUNT, size)}
            times = {check: [] for check in ways}
            for repeat in range(REPEATS + 1):
                for check, fetch in ways.items():
                    start = time.time()
                    session.run(fetch.op, feed)
                    if repeat:  # The first run compiles.
                        times[check].append(time.time() - start)
            medians = {check: statistics.median(t) for check, t in times.items()}
            cells = [
                "{:.2f}".format(medians[check] / medians["never"]) for check in ways
            ]
            print("| {} |".format(" | ".join([str(size), str(size)] + cells)))


if __name__ == "__main__":
    main()
