"""How an answer to a program compares with the truth, which is of f's own values."""

import numpy as np
from value_differences import curvatures_of, value_curvatures

from batchhess.compat import tf
from programs.registry import WISH, Setup

TOLERANCE = {"float64": 1e-6, "float32": 2e-3, "float16": 2e-2}


def make(program, dtype=None, flow=None):
    """The program's `Setup` and its placeholder, in the default graph."""
    v2 = (flow or program.flow) == "v2"
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    shape = program.value.shape
    shape = shape if program.static else (None,) + shape[1:]
    x = tf.placeholder(dtype or program.dtype, shape, name="x")
    setup = program.build(x)
    setup = setup if isinstance(setup, Setup) else Setup(setup)
    return setup._replace(x=x if setup.x is None else setup.x), x


def feed_of(program, setup, placeholder):
    """The feed_dict of the run whose answer is judged."""
    feed = {setup.x: program.value} if setup.x is placeholder else {}
    if setup.x is not placeholder and setup.run_feed is None:
        feed = {placeholder: program.value}
    feed.update(setup.feed)
    return feed


def start(session, setup):
    session.run([tf.global_variables_initializer(), list(setup.initializers)])


def point(program, setup, placeholder):
    """Where x is in the run: its value, if it is computed from the placeholder."""
    if setup.x is placeholder:
        return program.value
    feed = {placeholder: program.value} if setup.run_feed is None else {}
    with tf.Session() as session:
        start(session, setup)
        return session.run(setup.x, feed).astype(np.float64)


def wish(program, at):
    """The diagonal blocks of tf.hessians, under control flow v2."""
    with tf.Graph().as_default(), tf.Session() as session:
        setup, placeholder = make(program, "float64", "v2")
        gradient = tf.convert_to_tensor(tf.gradients(setup.ys, setup.x)[0])
        which = tf.placeholder(tf.int32, [])
        column = tf.gradients(tf.reshape(gradient, [-1])[which], setup.x)[0]
        if column is None:
            column = tf.zeros_like(gradient)
        start(session, setup)
        feed = dict(setup.feed)
        feed[placeholder] = at
        run = session.make_callable(tf.convert_to_tensor(column), [which] + list(feed))
        (n, k), rest = at.shape, list(feed.values())
        rows = [run(i, *rest)[i // k] for i in range(n * k)]
        return np.reshape(rows, [n, k, k])


def truth(program, at, directions=None):
    """`Curvatures` of f itself, in float64."""
    with tf.Graph().as_default(), tf.Session() as session:
        setup, placeholder = make(program, "float64")
        outputs = setup.options.get("per_output", False)
        ys = setup.ys if isinstance(setup.ys, list) else [setup.ys]
        y = tf.add_n([tf.reduce_sum(y, 0 if outputs else None) for y in ys])
        start(session, setup)
        fixed = dict(setup.feed)
        if setup.x is not placeholder and setup.run_feed is None:
            fixed[placeholder] = program.value
        run = session.make_callable(y, [setup.x] + list(fixed))
        return value_curvatures(
            lambda moved: run(moved, *fixed.values()),
            at,
            step=program.step,
            directions=directions,
        )


def comparison(program, setup, placeholder):
    """A function from an answer and its witness to how far it is off, and of what."""
    if setup.truth is not None:
        return lambda answer, witness: _apart(answer, setup.truth(*witness))
    at = point(program, setup, placeholder)
    if program.expected == WISH:
        expected = wish(program, at)
        return lambda answer, _: _apart(answer, expected)
    curvatures = truth(program, at)
    scale = max(np.abs(curvatures.along).max(), 1e-3)
    if not np.max(curvatures.errors) < 5 * TOLERANCE[program.dtype] * scale:
        worst = np.max(curvatures.errors)
        raise RuntimeError("no oracle: {} of {}".format(worst, scale))

    def compare(answer, _):
        outputs = setup.options.get("per_output", False)
        answer = np.moveaxis(answer, 1, 0) if outputs else answer[None]
        found = curvatures_of(answer, curvatures.directions)
        wrong = _apart(found, curvatures.along)[0]
        skew = np.abs(answer - np.swapaxes(answer, -1, -2)).max()
        return max(wrong, 0 if np.isnan(skew) else skew), scale

    return compare


def _apart(answer, expected):
    expected = np.asarray(expected)
    assert np.shape(answer) == expected.shape, np.shape(answer)
    off = np.abs(answer - expected)
    wrong = np.max(np.where(np.isnan(off), 0, off)) if off.size else 0
    return wrong, max(np.abs(expected).max(), 1e-3)
