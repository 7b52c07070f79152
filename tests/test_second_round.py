"""Programs to which there is one right answer: held against f itself, or refused.

Every tenth of them by default; SECOND_ROUND=all in the environment runs them all.
"""

import os
import re

import numpy as np
import pytest
from programs import PROGRAMS, REFUSED, RIGHT, WISH, Setup
from value_differences import curvatures_of, value_curvatures

import batchhess
from batchhess.compat import tf

TOLERANCE = {"float64": 1e-6, "float32": 2e-3, "float16": 2e-2}
# "differences" promises no more than this, and batch norms compute in float32.
LOOSE = 5e-3
CURES = (
    r"method=|check=|enable_control_flow_v2|Pass |Use |Write |Give |Call |Build |Cast "
    r"|Feed |Replace |Put |Keep |Wrap |Move |Make |Set |Sum |Name |Transpose |Take "
)


class Refused(Exception):  # noqa: N818
    """What the library has raised, or a run of its ops."""


def _make(program, dtype=None, flow=None):
    """The program's x and `Setup`, in the default graph."""
    v2 = (flow or program.flow) == "v2"
    (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
    shape = program.value.shape
    shape = shape if program.static else (None,) + shape[1:]
    x = tf.placeholder(dtype or program.dtype, shape, name="x")
    setup = program.build(x)
    setup = setup if isinstance(setup, Setup) else Setup(setup)
    return setup._replace(x=x if setup.x is None else setup.x), x


def _start(session, setup):
    session.run([tf.global_variables_initializer(), list(setup.initializers)])


def _answers(program):
    """Pairs of the library's Hessians and the witnesses of the same run."""
    setup, placeholder = _make(program)
    feed = {setup.x: program.value} if setup.x is placeholder else {}
    if setup.x is not placeholder and setup.run_feed is None:
        feed = {placeholder: program.value}
    feed.update(setup.feed)
    call = setup.call or (lambda ys, x: batchhess.hessians(ys, x, **setup.options)[0])
    try:
        hessian = call(setup.ys, setup.x)
    except Exception as error:
        raise Refused(_judge_error(error, run=False)) from error
    assert hessian is not None, "answered with None"
    found = []
    with tf.Session() as session:
        for _ in range(setup.repeats):
            fetches = [hessian, list(setup.witness), list(setup.also)]
            try:
                _start(session, setup)
                answer, witness, _ = session.run(fetches, feed)
            except tf.errors.OpError as error:
                raise Refused(_judge_error(error, run=True)) from error
            found.append((np.asarray(answer, np.float64), witness))
    return setup, found, placeholder


def _judge_error(error, run):
    """Its message, if it is a refusal as promised; else the test fails."""
    kinds = (ValueError, TypeError, LookupError, RuntimeError)
    expected = tf.errors.InvalidArgumentError if run else kinds
    message = str(error)
    label = "{}: {}".format(type(error).__name__, message[:400])
    assert isinstance(error, expected), "crashed: " + label
    assert re.search(r"hessians: ", message), "not our own words: " + label
    names = [op.name for op in tf.get_default_graph().get_operations()]
    names = [name for name in names if len(name) > 1] + ["'x:0'", "x:0"]
    assert any(name in message for name in names), "names no op: " + label
    assert re.search(CURES, message), "tells no cure: " + label
    return message


def _truth(program, at):
    """`Curvatures` of f itself, in float64."""
    with tf.Graph().as_default(), tf.Session() as session:
        setup, placeholder = _make(program, "float64")
        outputs = setup.options.get("per_output", False)
        ys = setup.ys if isinstance(setup.ys, list) else [setup.ys]
        y = tf.add_n([tf.reduce_sum(y, 0 if outputs else None) for y in ys])
        _start(session, setup)
        fixed = dict(setup.feed)
        if setup.x is not placeholder and setup.run_feed is None:
            fixed[placeholder] = program.value
        run = session.make_callable(y, [setup.x] + list(fixed))
        return value_curvatures(
            lambda moved: run(moved, *fixed.values()), at, step=program.step
        )


def _wish(program, at):
    """The diagonal blocks of tf.hessians, under control flow v2."""
    with tf.Graph().as_default(), tf.Session() as session:
        setup, placeholder = _make(program, "float64", "v2")
        gradient = tf.convert_to_tensor(tf.gradients(setup.ys, setup.x)[0])
        which = tf.placeholder(tf.int32, [])
        column = tf.gradients(tf.reshape(gradient, [-1])[which], setup.x)[0]
        if column is None:
            column = tf.zeros_like(gradient)
        _start(session, setup)
        feed = dict(setup.feed)
        feed[placeholder] = at
        run = session.make_callable(tf.convert_to_tensor(column), [which] + list(feed))
        (n, k), rest = at.shape, list(feed.values())
        rows = [run(i, *rest)[i // k] for i in range(n * k)]
        return np.reshape(rows, [n, k, k])


def _point(program, setup, placeholder):
    """Where x is in the run: its value, if it is computed from the placeholder."""
    if setup.x is placeholder:
        return program.value
    feed = {placeholder: program.value} if setup.run_feed is None else {}
    with tf.Session() as session:
        _start(session, setup)
        return session.run(setup.x, feed).astype(np.float64)


EVERY = 1 if os.environ.get("SECOND_ROUND") == "all" else 10


@pytest.mark.parametrize(
    "program", [pytest.param(p, id=p.name) for p in PROGRAMS[::EVERY]]
)
def test_the_answer_is_right_or_refused_with_a_cure(program):
    try:
        setup, found, placeholder = _answers(program)
    except Refused as refused:
        assert program.expected != RIGHT, "refused: {}".format(refused)
        return
    assert program.expected != REFUSED, "answered, and it cannot be right"
    compare = _against_truth(program, setup, placeholder)
    differences = setup.options.get("method") == "differences"
    tolerance = LOOSE if differences else TOLERANCE[program.dtype]
    for answer, witness in found:
        # A NaN is not a finite wrong answer, but for what has to be right.
        assert program.expected != RIGHT or np.isfinite(answer).all(), answer
        wrong, scale = compare(answer, witness)
        assert wrong < 10 * tolerance * scale, "{} of {}".format(wrong, scale)


def _against_truth(program, setup, placeholder):
    """A function from an answer and its witness to how far it is off, and of what."""
    if setup.truth is not None:
        return lambda answer, witness: _apart(answer, setup.truth(*witness))
    at = _point(program, setup, placeholder)
    if program.expected == WISH:
        expected = _wish(program, at)
        return lambda answer, _: _apart(answer, expected)
    truth = _truth(program, at)
    scale = max(np.abs(truth.along).max(), 1e-3)
    if not np.max(truth.errors) < 5 * TOLERANCE[program.dtype] * scale:
        raise RuntimeError("no oracle: {} of {}".format(np.max(truth.errors), scale))

    def compare(answer, _):
        outputs = setup.options.get("per_output", False)
        answer = np.moveaxis(answer, 1, 0) if outputs else answer[None]
        wrong = _apart(curvatures_of(answer, truth.directions), truth.along)[0]
        skew = np.abs(answer - np.swapaxes(answer, -1, -2)).max()
        return max(wrong, 0 if np.isnan(skew) else skew), scale

    return compare


def _apart(answer, expected):
    expected = np.asarray(expected)
    assert np.shape(answer) == expected.shape, np.shape(answer)
    off = np.abs(answer - expected)
    wrong = np.max(np.where(np.isnan(off), 0, off)) if off.size else 0
    return wrong, max(np.abs(expected).max(), 1e-3)
