"""The question that began it, as its asker runs it: a script of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
import tensorflow
tf = tensorflow.compat.v1
tf.{behaviour}()
import batchhess
x = tf.placeholder(tf.float32, shape=(None, 3), name='x')
f = tf.reduce_sum(tf.multiply(x, x), name='f')
grad = tf.gradients(f, x, name='grad')
hess = {hessians}(f, x, name='hess')
assert isinstance(hess, list) and len(hess) == 1
x_np = np.random.randn(2, 3)
with tf.Session() as sess:
    f_np, grad_np, hess_np = sess.run([f, grad, hess], feed_dict={{'x:0': x_np}})
    hess_tf = sess.run(tf.hessians(f, x), feed_dict={{'x:0': x_np}})[0]
assert hess_np[0].shape == (2, 3, 3), hess_np[0].shape
assert hess_np[0].dtype == np.float32
with tf.Session() as sess:
    hess_by_name = sess.run('hess:0', feed_dict={{'x:0': x_np}})
for i in range(2):
    np.testing.assert_array_equal(hess_np[0][i], 2 * np.eye(3))
    np.testing.assert_array_equal(hess_np[0][i], hess_tf[i, :, i, :])
    np.testing.assert_array_equal(hess_by_name[i], 2 * np.eye(3))
print('as asked')
"""


def run_script(**words):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(**words)],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "behaviour", ["disable_v2_behavior", "disable_eager_execution"]
)
def test_the_script_runs_with_one_word_changed(behaviour):
    answer = run_script(behaviour=behaviour, hessians="batchhess.hessians")
    assert answer.stdout == "as asked\n", answer.stderr


def test_the_script_fails_with_the_word_unchanged():
    answer = run_script(behaviour="disable_v2_behavior", hessians="tf.hessians")
    assert "AssertionError: (2, 3, 2, 3)" in answer.stderr
