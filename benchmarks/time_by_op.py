"""Where the time of a run goes: the kinds of op that take most of it.

Run: python benchmarks/time_by_op.py [workload ...]

The shares are of the time that all ops take together, on whatever core; op times are
from a trace, the time of a run is the median of several without one.
"""

import collections
import os
import re
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from workloads import WORKLOADS, asked_for, graph_of, trace

import batchhess
from batchhess.compat import VERSION, tf

MOST, REPEATS = 6, 9


def profile(name):
    """Answers the milliseconds of a run, and those of each kind of op."""
    workload = WORKLOADS[name]()
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, feed = graph_of(tf, workload)
        fetch = batchhess.hessians(y, x, batch_axis=workload.batch_axis)[0].op
        session.run(fetch, feed)
        taken = []
        for _ in range(REPEATS):
            start = time.time()
            session.run(fetch, feed)
            taken.append(1e3 * (time.time() - start))
        nodes = trace(tf, session, fetch, feed)
    by_kind = collections.Counter()
    for node in nodes:
        kind = re.search(r" = _?(?:Mkl|Native)*(\w+)\(", node.timeline_label)
        spent = node.op_end_rel_micros - node.op_start_rel_micros
        by_kind[kind.group(1) if kind else "other"] += spent / 1e3
    return statistics.median(taken), by_kind


def main():
    names = asked_for(WORKLOADS, __doc__, "workload")
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
    main()
