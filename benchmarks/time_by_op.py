"""Where the time of a run goes: the kinds of op that take most of it.

Run: python benchmarks/time_by_op.py [workload ...]

The shares are of the time that all ops take together, on whatever core; op times are
from a trace, the time of a run is the median of several without one.
"""

import collections
import os
import re
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from workloads import WORKLOADS, in_tensorflow

import batchhess
from batchhess.compat import VERSION, tf

MOST, REPEATS = 6, 9


def profile(name):
    """Answers the milliseconds of a run, and those of each kind of op."""
    workload = WORKLOADS[name]()
    with tf.Graph().as_default(), tf.Session() as session:

        def fed(value, axis):
            shape = [None if a == axis else d for a, d in enumerate(value.shape)]
            return tf.placeholder(tf.float32, shape)

        x = fed(workload.x, workload.batch_axis)
        data = [fed(d, d.ndim - 1 if workload.batch_axis else 0) for d in workload.data]
        weights = [tf.constant(w) for w in workload.weights]
        y = in_tensorflow(tf, workload.kind, x, data, weights)
        fetch = batchhess.hessians(y, x, batch_axis=workload.batch_axis)[0].op
        feed = dict(zip([x] + data, [workload.x] + workload.data))
        session.run(fetch, feed)
        taken = []
        for _ in range(REPEATS):
            start = time.time()
            session.run(fetch, feed)
            taken.append(1e3 * (time.time() - start))
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(fetch, feed, options=options, run_metadata=tf.RunMetadata())
        metadata = tf.RunMetadata()
        session.run(fetch, feed, options=options, run_metadata=metadata)
    by_kind = collections.Counter()
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            kind = re.search(r" = _?(?:Mkl|Native)*(\w+)\(", node.timeline_label)
            spent = node.op_end_rel_micros - node.op_start_rel_micros
            by_kind[kind.group(1) if kind else "other"] += spent / 1e3
    return statistics.median(taken), by_kind


def main(names):
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    print("TensorFlow {}".format(VERSION))
    print("| workload | ms of a run | ms of all ops | share of the most costly kinds |")
    print("|---|---|---|---|")
    for name in names:
        median, by_kind = profile(name)
        total = sum(by_kind.values())
        shares = [
            "{} {:.0f}%".format(kind, 100 * spent / total)
            for kind, spent in by_kind.most_common(MOST)
        ]
        row = "| {} | {:.1f} | {:.1f} | {} |"
        print(row.format(name, median, total, ", ".join(shares)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(WORKLOADS))
