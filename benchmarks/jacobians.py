r"""Times Jacobians of networks: batchhess, TensorFlow's own, and JAX.

    python benchmarks/jacobians.py [--networks 8-128-128-64 64-128-8] [--count 1024] \
        [--rounds 7]

A network is its widths, from K coordinates to M outputs, with tanh between; N = --count
observations in float32. In one process, in another order each round; medians of the
rounds, in ms. JAX, if it is installed, is compiled; its answer is waited for. All
answers are held against each other first.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import batchhess
from batchhess.compat import batch_jacobian, tf

NETWORKS = ["8-128-128-64", "32-256-256-32", "64-128-128-8", "128-256-2", "3-64-64-3"]


def tensorflow_runs(session, layers, value):
    x = tf.placeholder(tf.float32, [None, value.shape[1]])
    y = x
    for i, weights in enumerate(layers):
        y = tf.matmul(tf.tanh(y) if i else y, tf.constant(weights))
    ways = {
        "auto": lambda: batchhess.jacobians(y, x)[0],
        "forward": lambda: batchhess.jacobians(y, x, method="forward")[0],
        "reverse": lambda: batchhess.jacobians(y, x, method="reverse")[0],
        "jit": lambda: batchhess.jacobians(y, x, jit_compile=True)[0],
        "batch_jacobian": lambda: batch_jacobian(y, x),
    }
    for name, build in ways.items():
        answer = build()
        # The op, for fetching copies the result.
        yield (
            name,
            lambda op=answer.op: session.run(op, {x: value}),
            lambda answer=answer: session.run(answer, {x: value}),
        )


def jax_runs(layers, value):
    try:
        import jax
    except ImportError:
        return

    def model(x):
        for i, weights in enumerate(layers):
            x = (jax.numpy.tanh(x) if i else x) @ weights
        return x

    for name, transform in (("jacfwd", jax.jacfwd), ("jacrev", jax.jacrev)):
        function = jax.jit(jax.vmap(transform(model)))
        yield (
            "JAX " + name,
            lambda function=function: function(value).block_until_ready(),
            lambda function=function: np.asarray(function(value)),
        )


def measure(widths, count, rounds):
    random = np.random.RandomState(0)
    layers = [
        (random.randn(a, b) / np.sqrt(a)).astype("float32")
        for a, b in zip(widths, widths[1:])
    ]
    value = random.randn(count, widths[0]).astype("float32")
    with tf.Graph().as_default(), tf.Session() as session:
        ways = list(tensorflow_runs(session, layers, value))
        ways += list(jax_runs(layers, value))
        answers = [answer() for _, _, answer in ways]
        for found in answers[1:]:
            np.testing.assert_allclose(found, answers[0], rtol=1e-3, atol=1e-4)
        times = {name: [] for name, _, _ in ways}
        for _ in range(rounds + 1):
            random.shuffle(ways)  # What runs before may leave the processor busy.
            for name, run, _ in ways:
                start = time.time()
                run()
                times[name].append(time.time() - start)
    return {name: 1e3 * statistics.median(taken[1:]) for name, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="of widths")
    parser.add_argument("--count", type=int, default=1024, help="observations")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    given = parser.parse_args()
    tf.disable_eager_execution()
    tf.disable_v2_tensorshape()  # batch_jacobian compares sizes with None.
    for i, name in enumerate(given.networks):
        widths = [int(width) for width in name.split("-")]
        found = measure(widths, given.count, given.rounds)
        if not i:
            print("| network | " + " | ".join(found) + " |")
            print("|---" * (len(found) + 1) + "|")
        cells = ["{:.1f}".format(ms) for ms in found.values()]
        print("| {} | {} |".format(name, " | ".join(cells)), flush=True)


if __name__ == "__main__":
    main()
