"""Seconds to build Hessians, against the number of ops in the model.

    python benchmarks/build_time.py            # chains of 100 to 3,000 ops
    python benchmarks/build_time.py 100 300    # of these sizes alone

Each row builds the model anew in a graph of its own. `tf.hessians` is the measure:
building is meant to be linear in the ops, and at most three times as long as that.
"""

import argparse
import time

import workloads  # noqa: F401  Sets TensorFlow's environment.

import batchhess
from batchhess.compat import VERSION, tf

SIZES = (100, 300, 1000, 3000)


def elementwise(x, ops):
    """A chain of ops that work element by element."""
    for i in range(ops // 2):
        x = tf.tanh(x) if i % 2 else tf.sin(x)
        x = x + 0.1
    return tf.reduce_sum(x)


def dense(x, ops):
    """Dense layers of four ops each, with a residual connection."""
    for _ in range(ops // 4):
        w = tf.constant(0.1, shape=(4, 4))
        x = x + tf.tanh(tf.matmul(x, w) + 0.1)
    return tf.reduce_sum(x)


MODELS = {"elementwise": elementwise, "dense": dense}

WAYS = {
    "tf.hessians": lambda y, x: tf.hessians(y, x),
    "auto": lambda y, x: batchhess.hessians(y, x),
    "symmetric": lambda y, x: batchhess.hessians(y, x, method="symmetric"),
    "columns": lambda y, x: batchhess.hessians(y, x, method="columns"),
}


def seconds(model, ops, way):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 4])
        y = MODELS[model](x, ops)
        start = time.perf_counter()
        WAYS[way](y, x)
        return time.perf_counter() - start


def several(count=30):
    """Of many xs of one model, and of one: `hessians` of a list and of its first."""
    with tf.Graph().as_default():
        xs = [tf.placeholder(tf.float32, [None, 1]) for _ in range(count)]
        hidden = tf.tanh(tf.matmul(tf.concat(xs, 1), tf.ones([count, 8])))
        y = tf.reduce_sum(tf.tanh(tf.matmul(hidden, tf.ones([8, 8]))))
        times = []
        for given in (xs[0], xs):
            start = time.perf_counter()
            batchhess.hessians(y, given)
            times.append(time.perf_counter() - start)
    return times


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_text = "ops of a chain; {} {} {} {} if none".format(*SIZES)
    parser.add_argument("sizes", nargs="*", type=int, metavar="OPS", help=help_text)
    sizes = parser.parse_args().sizes or SIZES
    tf.disable_eager_execution()
    print("TensorFlow {}, seconds to build".format(VERSION))
    print("{:<12} {:>6}".format("model", "ops"), *["{:>12}".format(w) for w in WAYS])
    for model in MODELS:
        for ops in sizes:
            times = [seconds(model, ops, way) for way in WAYS]
            print("{:<12} {:>6}".format(model, ops), end=" ")
            print(*["{:12.2f}".format(t) for t in times], flush=True)
    print("one x {:.2f}, thirty xs {:.2f}".format(*several()))


if __name__ == "__main__":
    main()
