"""Programs of users, by hand and with batchhess: milliseconds of a run, side by side.

    python benchmarks/users.py                # all
    python benchmarks/users.py burgers beam   # these alone

By hand means tf.gradients chained column by column, as such programs are written. Each
pair runs in turn in one process, medians of 21: the residual alone, and a training
step, the gradient of its mean square by the weights. Above 1, batchhess is faster. A
row whose answers differ says so: TensorFlow 1.15 differentiates slogdet wrongly.
"""

import time

import numpy as np
from workloads import asked_for

import batchhess
from batchhess.compat import VERSION, tf


def network(x, sizes, seed=0):
    """A tanh network with Variables for weights."""
    random = np.random.RandomState(seed)
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        w = tf.Variable((random.randn(a, b) / np.sqrt(a)).astype("float32"))
        x = tf.matmul(x, w) + tf.Variable(np.zeros(b, "float32"))
        x = x if i == len(sizes) - 2 else tf.tanh(x)
    return x


def hand_column(u, x, k):
    """d2u / dx_k dx, [N, K], of u of shape [N, 1]."""
    return tf.gradients(tf.gradients(u, x)[0][:, k : k + 1], x)[0]


def hand_hessian(u, x):
    slopes = tf.gradients(u, x)[0]
    size = x.shape.as_list()[1]
    columns = [tf.gradients(slopes[:, k : k + 1], x)[0] for k in range(size)]
    return tf.stack(columns, axis=2)


def burgers(by_hand):
    x = tf.placeholder(tf.float32, [None, 2])
    u = network(x, [2, 20, 20, 20, 1])
    if by_hand:
        slope, bend = tf.gradients(u, x)[0], hand_column(u, x, 0)[:, 0]
    else:
        built = batchhess.derivatives(u, x, coordinates=[0])
        slope, bend = built.gradients[0], built.hessians[0][:, 0, 0]
    residual = slope[:, 1] + u[:, 0] * slope[:, 0] - 0.01 / np.pi * bend
    return x, residual, 2000


def laplacian(by_hand):
    x = tf.placeholder(tf.float32, [None, 3])
    u = network(x, [3, 50, 50, 50, 1])
    if by_hand:
        residual = tf.add_n([hand_column(u, x, k)[:, k] for k in range(3)])
    else:
        residual = batchhess.laplacians(u, x)[0]
    return x, residual, 5000


def hessian(by_hand):
    x = tf.placeholder(tf.float32, [None, 3])
    u = network(x, [3, 50, 50, 50, 1])
    found = hand_hessian(u, x) if by_hand else batchhess.hessians(u, x)[0]
    return x, tf.reduce_sum(found, [1, 2]), 5000


def kovasznay(by_hand):
    x = tf.placeholder(tf.float32, [None, 2])
    out = network(x, [2, 50, 50, 50, 50, 3])
    u, v, p = (out[:, i : i + 1] for i in range(3))
    slopes = [tf.gradients(t, x)[0] for t in (u, v, p)]
    if by_hand:
        laplace = [
            hand_column(t, x, 0)[:, 0] + hand_column(t, x, 1)[:, 1] for t in (u, v)
        ]
    else:
        found = batchhess.laplacians(out[:, :2], x, per_output=True)[0]
        laplace = [found[:, 0], found[:, 1]]
    residual = tf.stack(
        [
            u[:, 0] * s[:, 0] + v[:, 0] * s[:, 1] + slopes[2][:, i] - laplace[i] / 20
            for i, s in enumerate(slopes[:2])
        ],
        1,
    )
    return x, residual, 2000


def beam(by_hand):
    """Euler's beam: a Hessian of a Hessian."""
    x = tf.placeholder(tf.float32, [None, 1])
    u = network(x, [1, 20, 20, 20, 1])
    if by_hand:
        for _ in range(4):
            u = tf.gradients(u, x)[0]
        return x, u[:, 0] + 1, 1000
    second = batchhess.hessians(u, x)[0][:, 0]
    return x, batchhess.hessians(second, x)[0][:, 0, 0] + 1, 1000


def log_psi(by_hand):
    """A local energy: Laplacian of log|det| of orbitals of 4 electrons."""
    x = tf.placeholder(tf.float32, [None, 12])
    electrons = tf.reshape(x, [-1, 4, 3])
    flat = tf.reshape(electrons, [-1, 3])
    orbitals = tf.reshape(network(flat, [3, 32, 32, 4]), [-1, 4, 4])
    y = tf.linalg.slogdet(orbitals)[1][:, None]
    if by_hand:
        slopes = tf.gradients(y, x)[0]
        bends = [tf.gradients(slopes[:, k], x)[0][:, k] for k in range(12)]
        return x, tf.add_n(bends), 500
    return x, batchhess.laplacians(y, x)[0], 500


def boosting(by_hand):
    """A Newton step of the likelihood of a normal distribution, two parameters."""
    x = tf.placeholder(tf.float32, [None, 2])
    target = tf.Variable(np.random.RandomState(1).randn(20000, 1).astype("float32"))
    z = (target - x[:, :1]) / tf.nn.softplus(x[:, 1:])
    y = 0.5 * z**2 + tf.math.log(tf.nn.softplus(x[:, 1:]))
    if by_hand:
        slope, found = tf.gradients(y, x)[0], hand_hessian(y, x)
    else:
        built = batchhess.derivatives(y, x)
        slope, found = built.gradients[0], built.hessians[0]
    ridge = 0.1 * tf.eye(2)
    step = tf.linalg.solve(found + ridge, slope[:, :, None])[:, :, 0]
    return x, tf.reduce_sum(step, 1), 20000


PROGRAMS = {
    "burgers": burgers,
    "laplacian": laplacian,
    "hessian": hessian,
    "kovasznay": kovasznay,
    "beam": beam,
    "log_psi": log_psi,
    "boosting": boosting,
}


def built(program, by_hand):
    """What to run, with what, and the seconds that building took."""
    start = time.perf_counter()
    with tf.Graph().as_default() as graph:
        x, residual, count = program(by_hand)
        loss = tf.reduce_mean(residual**2)
        gradients = tf.gradients(loss, tf.trainable_variables())
        step = [g for g in gradients if g is not None]
        took = time.perf_counter() - start
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
    feed = {x: np.random.RandomState(2).randn(count, x.shape[1]).astype("float32")}
    return session, feed, residual, step, took


def medians(name):
    """Pairs (by hand, ours) of ms of a residual, ms of a step, seconds to build.

    And by how much the two residuals differ, relative to the largest.
    """
    pair = [built(PROGRAMS[name], by_hand) for by_hand in (True, False)]
    answers = [session.run(r, feed) for session, feed, r, _, _ in pair]
    apart = np.abs(answers[0] - answers[1]).max() / np.abs(answers[0]).max()
    times = {}
    for fetch in (2, 3):
        for turn in range(24):
            for i, made in enumerate(pair):
                start = time.perf_counter()
                made[0].run(made[fetch], made[1])
                if turn >= 3:
                    took = time.perf_counter() - start
                    times.setdefault((fetch, i), []).append(1e3 * took)
    found = [[np.median(times[fetch, i]) for i in (0, 1)] for fetch in (2, 3)]
    return found + [[made[4] for made in pair]], apart


def main():
    names = asked_for(PROGRAMS, __doc__, "program")
    tf.disable_eager_execution()
    print("TensorFlow {}: by hand, batchhess, ratio".format(VERSION))
    print("{:<10} {:^24} {:^24} {:^24}".format("", "residual", "step", "build"))
    ratios = []
    for name in names:
        row, apart = medians(name)
        ratios += [hand / ours for hand, ours in row[:2]]
        cells = ["{:7.2f} {:7.2f} {:6.2f}  ".format(a, b, a / b) for a, b in row]
        told = "the answers differ by {:.2g}".format(apart) if apart > 1e-2 else ""
        print("{:<10}".format(name), *cells, told, flush=True)
    print("geometric mean {:.2f}".format(np.exp(np.mean(np.log(ratios)))))


if __name__ == "__main__":
    main()
