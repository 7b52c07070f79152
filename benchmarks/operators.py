"""Times what batchhess builds on one model: how much a part of the Hessian saves.

    python benchmarks/operators.py [--workloads pinn mlp16] [--rounds 7]

In one process, in turn; medians of the rounds, in ms.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from workloads import WORKLOADS, graph_of, workload_of

import batchhess
from batchhess.compat import tf


def answers(x, y, axis):
    """What to run, by its name; the op, for fetching copies the result."""
    built = {
        "gradient": [tf.gradients(y, x)[0]],
        "H v": batchhess.hessian_vector_products(
            y, x, tf.ones_like(x), batch_axis=axis
        ),
        "Laplacian": batchhess.laplacians(y, x, batch_axis=axis),
        "Laplacian by columns": batchhess.laplacians(
            y, x, batch_axis=axis, method="columns"
        ),
        "Hessian": batchhess.hessians(y, x, batch_axis=axis),
    }
    all_three = batchhess.derivatives(y, x, batch_axis=axis)
    runs = {name: tensors[0].op for name, tensors in built.items()}
    ends = [y] + all_three.gradients + all_three.hessians
    return dict(runs, **{"values, gradient, Hessian": [end.op for end in ends]})


def measure(name, rounds):
    workload = workload_of(name)
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, feed = graph_of(tf, workload)
        runs = answers(x, y, workload.batch_axis)
        times = {name: [] for name in runs}
        for _ in range(rounds + 1):
            for name, run in runs.items():
                start = time.time()
                session.run(run, feed)
                times[name].append(time.time() - start)
    return {name: 1e3 * statistics.median(taken[1:]) for name, taken in times.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    for i, name in enumerate(given.workloads):
        found = measure(name, given.rounds)
        if not i:
            print("| workload | " + " | ".join(found) + " |")
            print("|---" * (len(found) + 1) + "|")
        cells = ["{:.1f}".format(ms) for ms in found.values()]
        print("| {} | {} |".format(name, " | ".join(cells)), flush=True)


if __name__ == "__main__":
    main()
