"""Times `evaluate` into a directory beside a loop that fills a memory map by hand.

    python benchmarks/storage.py [--observations 100000] [--rounds 5]

Both run one Session on batches of the same data, in turn; medians of the rounds, in s.
By hand nothing is checked and nothing can be resumed.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import batchhess
from batchhess.compat import tf

K, WIDTH = 32, 32


def linear(x, weights):
    return tf.nn.softplus(tf.reduce_sum(x * weights[:, 0], 1))


def network(x, weights):
    hidden = tf.tanh(tf.matmul(x, weights))
    return tf.reduce_sum(tf.tanh(tf.matmul(hidden, weights.T)), 1)


def by_hand(session, hessian, x, data, batch_size, path):
    shape = (len(data), K, K)
    file = np.lib.format.open_memmap(path + ".npy", "w+", data.dtype, shape)
    for start in range(0, len(data), batch_size):
        batch = slice(start, start + batch_size)
        file[batch] = session.run(hessian, {x: data[batch]})
    file.flush()


def by_evaluate(session, hessian, x, data, batch_size, path):
    batchhess.evaluate(
        session, hessian, {x: data}, [x], batch_size=batch_size, out=path
    )


def measure(model, data, batch_size, rounds):
    ways = by_hand, by_evaluate
    times = {way: [] for way in ways}
    weights = np.random.RandomState(0).randn(K, WIDTH).astype(data.dtype) / 6
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(data.dtype, (None, K))
        (hessian,) = batchhess.hessians(model(x, weights), x)
        for way in ways * (rounds + 1):
            with tempfile.TemporaryDirectory() as directory:
                start = time.time()
                way(session, hessian, x, data, batch_size, directory + "/results")
                times[way].append(time.time() - start)
    return [statistics.median(times[way][1:]) for way in ways]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--observations", type=int, default=100000, help="N")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each")
    given = parser.parse_args()
    data = np.random.RandomState(1).randn(given.observations, K).astype("f")
    print("| model | batch | by hand | `evaluate` | `evaluate` / by hand |")
    print("|---|---|---|---|---|")
    for model in linear, network:
        for size in 256, 1024, 4096:
            hand, ours = measure(model, data, size, given.rounds)
            print(
                "| {} | {:,} | {:.2f} | {:.2f} | {:.2f} |".format(
                    model.__name__, size, hand, ours, ours / hand
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
