r"""Times banded Hessians: their entries alone, whole ones, and asdex's on JAX.

    python benchmarks/sparsity.py [--sizes 64 512 4096] [--rounds 9] \
        [--asdex-python PATH]

f sums a function of two neighbours each, so that Hessians are tridiagonal; N = 100
observations in float32. Medians of the rounds, in ms; one way after another, the peer
in a process of its own. asdex's is compiled, mapped over observations, and waited for.
Whole Hessians only up to K = 512. The entries are held against each other first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

COUNT = 100


def values_of(size):
    return np.random.RandomState(0).randn(COUNT, size).astype(np.float32)


def tensorflow_runs(size):
    """From the name of a way to what runs it, and its entries [N, entries]."""
    import batchhess
    from batchhess.compat import tf

    x, value = tf.placeholder(tf.float32, [None, size]), values_of(size)
    f = tf.reduce_sum(tf.sin(x[:, 1:] * x[:, :-1]), 1) + tf.reduce_sum(x**3, 1)
    start = time.time()
    (pattern,) = batchhess.detect_sparsity(f, x)
    print("K = {}: detected in {:.2f} s".format(size, time.time() - start))
    start = time.time()
    (found,) = batchhess.hessians(f, x, sparsity=pattern, dense=False)
    print("K = {}: built in {:.2f} s".format(size, time.time() - start))
    session = tf.Session()
    yield (
        "entries",
        # The op, for fetching copies the result.
        lambda: session.run(found.values.op, {x: value}),
        lambda: session.run(found.values, {x: value}),
    )
    if size > 512:
        return
    rows, columns = found.indices.T
    for name, method in (("whole, columns", "columns"), ("whole, auto", "auto")):
        whole = batchhess.hessians(f, x, method=method)[0]
        yield (
            name,
            lambda whole=whole: session.run(whole.op, {x: value}),
            lambda whole=whole: session.run(whole, {x: value})[:, rows, columns],
        )


def time_asdex(size, rounds):
    """Milliseconds of each round, and the entries [N, entries], row by row."""
    import asdex
    import jax

    def f(x):
        return jax.numpy.sum(jax.numpy.sin(x[1:] * x[:-1])) + jax.numpy.sum(x**3)

    value = jax.numpy.asarray(values_of(size))
    start = time.time()
    coloring = asdex.hessian_coloring(f, value[0])
    print(
        "K = {}: asdex detected and coloured in {:.2f} s".format(
            size, time.time() - start
        ),
        file=sys.stderr,
    )
    each = asdex.hessian_from_coloring(f, coloring)
    compiled = jax.jit(jax.vmap(each))
    found = compiled(value)
    order = np.lexsort(np.asarray(found.indices[0]).T[::-1])
    times = [
        elapsed(lambda: jax.block_until_ready(compiled(value))) for _ in range(rounds)
    ]
    return times, np.asarray(found.data)[:, order]


def elapsed(run):
    start = time.time()
    run()
    return 1e3 * (time.time() - start)


def asdex_in(python, size, rounds):
    """As `time_asdex`, by another Python."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "found.npy")
        command = [python, __file__, "--peer", path, "--sizes", str(size)]
        command += ["--rounds", str(rounds)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return json.loads(told.stdout.decode()), np.load(path)


def report(size, rounds, python):
    """Prints the medians of one K."""
    medians, entries = {}, {}
    for name, run, answer in tensorflow_runs(size):
        entries[name] = answer()
        medians[name] = statistics.median(elapsed(run) for _ in range(rounds))
    if python:
        times, entries["asdex"] = asdex_in(python, size, rounds)
        medians["asdex"] = statistics.median(times)
    for name, found in entries.items():
        np.testing.assert_allclose(
            found, entries["entries"], rtol=1e-3, atol=1e-3, err_msg=name
        )
    for name, median in medians.items():
        print(
            "K = {}: {:<15} {:8.2f} ms   {:6.2f} times entries".format(
                size, name, median, median / medians["entries"]
            )
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", nargs="*", type=int, default=[64, 512, 4096], help="K"
    )
    parser.add_argument("--rounds", type=int, default=9, help="runs of each")
    parser.add_argument("--asdex-python", help="a Python that has asdex and JAX")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        times, found = time_asdex(given.sizes[0], given.rounds)
        np.save(given.peer, found)
        print(json.dumps(times))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from batchhess.compat import tf

    tf.disable_eager_execution()
    print("TensorFlow {}, N = {}".format(tf.__version__, COUNT))
    for size in given.sizes:
        with tf.Graph().as_default():
            report(size, given.rounds, given.asdex_python)


if __name__ == "__main__":
    main()
