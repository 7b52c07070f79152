"""A real run on real data: a network on Fisher's iris, and the wall of N squared."""

import csv
import os
import sys
import threading
import time

import numpy as np

from batchhess.compat import tf
from batchhess.operators import derivatives, hessians

FEATURES = ["sepal length", "sepal width", "petal length", "petal width"]
SIZES = [100, 200, 400, 800, 1600]
SPECIES = ["setosa", "versicolor", "virginica"]


def load_iris():
    """Reads the measurements of iris flowers.

    They are R. A. Fisher's, "The use of multiple measurements in taxonomic problems",
    Annals of Eugenics 7 (1936), 179-188.

    Returns:
      features: float32 array [150, 4], each column scaled to mean 0 and deviation 1.
      labels: int32 array [150], the index into `SPECIES`.
    """
    path = os.path.join(os.path.dirname(__file__), "data", "iris.csv")
    with open(path, encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    features = np.array([row[:4] for row in rows], np.float32)
    labels = np.array([SPECIES.index(row[4]) for row in rows], np.int32)
    return (features - features.mean(0)) / features.std(0), labels


def build_model(x, labels):
    """The loss of each flower: a network of one hidden layer, as TF1 programs write it.

    Args:
      x: float32 Tensor [N, 4].
      labels: int32 Tensor [N].

    Returns:
      float32 Tensor [N], the cross entropy in nats.
    """
    with tf.variable_scope("iris", reuse=tf.AUTO_REUSE):
        hidden_w = tf.get_variable("hidden_w", [4, 16])
        hidden_b = tf.get_variable("hidden_b", [16], initializer=tf.zeros_initializer())
        logits_w = tf.get_variable("logits_w", [16, 3])
        logits_b = tf.get_variable("logits_b", [3], initializer=tf.zeros_initializer())
    hidden = tf.tanh(tf.matmul(x, hidden_w) + hidden_b)
    return tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.one_hot(labels, 3), logits=tf.matmul(hidden, logits_w) + logits_b
    )


def run(sizes=tuple(SIZES), steps=300, out=sys.stdout):
    """Trains, differentiates, checks and measures; prints what it finds to `out`.

    Args:
      sizes: the N of the table, in observations.
      steps: of training.
      out: a text file.
    """
    say = _Progress(out)
    features, labels = load_iris()
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        x = tf.placeholder(tf.float32, shape=(None, 4), name="x")
        y = tf.placeholder(tf.int32, shape=(None,), name="y")
        loss = build_model(x, y)
        f = tf.reduce_sum(loss, name="f")
        train = tf.train.AdamOptimizer(0.02).minimize(tf.reduce_mean(loss))
        ours = derivatives(f, x, name="hess")
        theirs = tf.hessians(f, x)[0]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            everything = {x: features, y: labels}
            for step in range(steps):
                say.working("training, step {} of {}".format(step + 1, steps))
                session.run(train, everything)
            say.line(
                "A 4-16-3 network on 150 irises, {} steps: mean loss {:.4f}".format(
                    steps, session.run(f, everything) / len(labels)
                )
            )
            _show_flowers(session, ours, everything, labels, say)
            say.working("checking against tf.hessians")
            _check(session, ours.hessians[0], theirs, everything, say)
            _show_wall(session, x, y, f, theirs, features, labels, sizes, say)


def _show_flowers(session, ours, feed, labels, say):
    (gradients,), (blocks,) = session.run([ours.gradients, ours.hessians], feed)
    say.line("gradients {}, hessians {}".format(gradients.shape, blocks.shape))
    say.line("(in units of the loss per standard deviation of a feature)")
    with np.printoptions(precision=4, suppress=True):
        for n in (0, 70, 133):
            say.line("\nflower {} ({})".format(n, SPECIES[labels[n]]))
            say.line("  gradient  {}".format(gradients[n]))
            for row, name in zip(blocks[n], FEATURES):
                say.line("  hessian   {}  {}".format(row, name))


def _check(session, ours, theirs, feed, say):
    blocks, full = session.run([ours, theirs], feed)
    count = len(full)
    sliced = full[np.arange(count), :, np.arange(count), :]
    error = np.abs(blocks - sliced).max()
    say.line(
        "\ntf.hessians gives {}; its {} diagonal blocks differ from ours by at most "
        "{:.1e} (largest entry {:.3f})".format(
            full.shape, count, error, np.abs(sliced).max()
        )
    )
    if not error <= 1e-5 * np.abs(sliced).max():
        raise AssertionError("batchhess and tf.hessians disagree")


def _show_wall(session, x, y, f, theirs, features, labels, sizes, say):
    ours = hessians(f, x, name="alone")[0]
    say.line("\n       N   tf.hessians              batchhess.hessians")
    for count in sizes:
        rows = np.arange(count) % len(labels)
        feed = {x: features[rows], y: labels[rows]}
        cells = []
        for name, fetch in (("tf.hessians", theirs), ("batchhess", ours)):
            say.working("measuring {}, N = {}".format(name, count))
            session.run(fetch, {x: features[:2], y: labels[:2]})  # First-run cost.
            seconds, megabytes = measure(lambda: session.run(fetch, feed))  # noqa: B023
            cells.append("{:9.4f} s {:8.1f} MB".format(seconds, megabytes))
        say.line("{:8d}   {}   {}".format(count, *cells))


def measure(call):
    """Times `call` and samples this process's memory while it runs.

    Args:
      call: a function without arguments; what it returns is kept until measured.

    Returns:
      seconds: float.
      megabytes: float, the peak of resident memory above that before the call, sampled
        each millisecond; nan where the system does not tell.
    """
    before, peak, done = _resident(), [0.0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], _resident())
            done.wait(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.time()
    result = call()
    seconds = time.time() - start
    peak[0] = max(peak[0], _resident())
    del result
    done.set()
    watcher.join()
    return seconds, max(peak[0] - before, 0.0) if before else float("nan")


def _resident():
    """Resident memory in megabytes; 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Progress:
    """Prints lines, and what is being done until the next one comes."""

    def __init__(self, out):
        self._out = out
        self._live = out.isatty()
        self._said = time.time()

    def working(self, what):
        """Rewrites one line of a terminal; adds one to a file every two seconds."""
        if self._live:
            self._out.write("\r\033[K... " + what)
        elif time.time() - self._said > 2:
            self._out.write("... " + what + "\n")
            self._said = time.time()
        self._out.flush()

    def line(self, text):
        self._out.write(("\r\033[K" if self._live else "") + text + "\n")
        self._out.flush()
