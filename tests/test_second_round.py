"""Programs to which there is one right answer: held against f itself, or refused.

Every tenth of them by default, and what was answered wrongly unseen by these;
SECOND_ROUND=all in the environment runs them all.
"""

import os
import re

import numpy as np
import pytest
from programs import PROGRAMS, REFUSED, RIGHT
from programs.judging import TOLERANCE, comparison, feed_of, make, start

import batchhess
from batchhess.compat import tf

# "differences" promises no more than this, and batch norms compute in float32.
LOOSE = 5e-3
CURES = (
    r"method=|check=|enable_control_flow_v2|Pass |Use |Write |Give |Call |Build |Cast "
    r"|Feed |Replace |Put |Keep |Wrap |Move |Make |Set |Sum |Name |Transpose |Take "
)


class Refused(Exception):  # noqa: N818
    """What the library has raised, or a run of its ops."""


def _answers(program):
    """Pairs of the library's Hessians and the witnesses of the same run."""
    setup, placeholder = make(program)
    feed = feed_of(program, setup, placeholder)
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
                start(session, setup)
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


STEP = 1 if os.environ.get("SECOND_ROUND") == "all" else 10
ALWAYS = {"recompute_grad around moments"}
TAKEN = [p for i, p in enumerate(PROGRAMS) if i % STEP == 0 or p.name in ALWAYS]


@pytest.mark.parametrize("program", [pytest.param(p, id=p.name) for p in TAKEN])
def test_the_answer_is_right_or_refused_with_a_cure(program):
    try:
        setup, found, placeholder = _answers(program)
    except Refused as refused:
        assert program.expected != RIGHT, "refused: {}".format(refused)
        return
    assert program.expected != REFUSED, "answered, and it cannot be right"
    compare = comparison(program, setup, placeholder)
    differences = setup.options.get("method") == "differences"
    tolerance = LOOSE if differences else TOLERANCE[program.dtype]
    for answer, witness in found:
        # A NaN is not a finite wrong answer, but for what has to be right.
        assert program.expected != RIGHT or np.isfinite(answer).all(), answer
        wrong, scale = compare(answer, witness)
        assert wrong < 10 * tolerance * scale, "{} of {}".format(wrong, scale)
