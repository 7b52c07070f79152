"""TensorFlow's own cluster: the Hessian runs where the model is."""

import collections
import re
import socket

import numpy as np
import pytest

import batchhess
from batchhess.compat import tf


@pytest.fixture(scope="module")
def target():
    """A cluster of two workers on this machine; the Session connects to the first."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = ["localhost:{}".format(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    cluster = tf.train.ClusterSpec({"worker": addresses})
    servers = [
        tf.train.Server(cluster, job_name="worker", task_index=task)
        for task in range(2)
    ]
    yield servers[0].target


def tasks_of_run(session, fetch, feed):
    """What is answered, and how many ops each task has run."""
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    metadata, counts = tf.RunMetadata(), collections.Counter()
    answer = session.run(fetch, feed, options=options, run_metadata=metadata)
    for device in metadata.step_stats.dev_stats:
        task = re.search(r"task:(\d+)", device.device)
        if task:  # Version 1.15 has a line for the host of all.
            counts[int(task.group(1))] += len(device.node_stats)
    return answer, counts


@pytest.mark.parametrize("method", ["columns", "symmetric"])
def test_the_hessian_runs_where_the_model_is(target, method, random):
    with tf.device("/job:worker/task:1"):
        x = tf.placeholder(tf.float64, [None, 3])
        w = tf.get_variable("w", initializer=np.arange(1.0, 4))
        y = tf.reduce_sum(w * x**3)
    (hessian,) = batchhess.hessians(y, x, method=method)
    value = random.randn(7, 3)
    with tf.Session(target) as session:
        session.run(tf.global_variables_initializer())
        found, counts = tasks_of_run(session, hessian, {x: value})
    expected = 6 * (np.arange(1.0, 4) * value)[:, :, None] * np.eye(3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # What is left to the first is the feed and the fetch.
    assert counts[0] < 0.25 * counts[1], counts


def test_a_device_that_the_caller_names_is_kept(target):
    with tf.device("/job:worker/task:1"):
        x = tf.placeholder(tf.float64, [None, 3])
        y = tf.reduce_sum(x**3)
    with tf.device("/job:worker/task:0"):
        (hessian,) = batchhess.hessians(y, x)
    assert tf.DeviceSpec.from_string(hessian.device).task == 0
