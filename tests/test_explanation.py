"""explain tells what will be done, and why."""

import numpy as np
import pytest

import batchhess
from batchhess.compat import tf


def explanation(build, shape=(None, 3), **options):
    x = tf.placeholder(tf.float32, shape, name="x")
    (answer,) = batchhess.explain(build(x), x, **options)
    return answer


def test_explain_a_separable_model():
    answer = explanation(lambda x: tf.tanh(x), num_observations=1000)
    assert answer.separable and answer.mixing is None and not answer.faults
    assert answer.passes == "1"
    assert answer.memory > 1000 * 9 * 4
    assert "proven separate" in str(answer)
    assert "symmetric, on all observations at once" in str(answer)


@pytest.mark.parametrize(
    "count, error", [(1e6, TypeError), (True, TypeError), (-1, ValueError)]
)
def test_a_number_of_observations_is_one(count, error):
    with pytest.raises(error, match="num_observations"):
        explanation(tf.tanh, num_observations=count)
    of_numpy = explanation(tf.tanh, num_observations=np.int64(7)).memory
    assert of_numpy == explanation(tf.tanh, num_observations=7).memory


def test_explain_what_symmetric_cannot_follow():
    answer = explanation(
        lambda x: tf.cond(tf.constant(True), lambda: tf.sin(x), lambda: x),
        num_observations=1000,
    )
    assert answer.separable
    assert answer.passes == "3"
    assert answer.memory == 3 * 1000 * 9 * 4
    assert "columns, 3 reverse passes; symmetric cannot follow" in str(answer)


def test_explain_a_coupled_model():
    answer = explanation(lambda x: x**2 * tf.reduce_mean(x))
    assert not answer.separable
    assert answer.mixing.type == "Mul"
    assert "test_explanation.py" in str(answer)
    assert "method='observations'" in str(answer)
    assert answer.memory is None


def test_explain_faults():
    tf.disable_control_flow_v2()
    draw = lambda a: tf.sin(a) * tf.random_uniform([])  # noqa: E731
    body = lambda i, a: (i + 1, draw(a))  # noqa: E731
    answer = explanation(lambda x: tf.while_loop(lambda i, _: i < 2, body, (0, x))[1])
    assert [op.type for op in answer.faults] == ["Exit"]
    assert "enable_control_flow_v2" in str(answer)


def test_explain_tells_what_is_rewritten():
    answer = explanation(
        lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
            labels=tf.nn.softmax(x), logits=x
        )
    )
    assert not answer.faults
    assert "rewritten" in str(answer)


def test_explain_linear_and_unconnected():
    assert "zeros" in str(explanation(lambda x: 2 * x))
    assert "not connected" in str(explanation(lambda x: tf.ones([4])))


def test_explain_runs_nothing_and_checks_its_arguments():
    with pytest.raises(TypeError, match="explain: ys must be a tf.Tensor"):
        batchhess.explain(3.0, tf.placeholder(tf.float32, (None, 2)))


def network(x, *sizes):
    for a, b in zip(sizes, sizes[1:]):
        x = tf.tanh(tf.matmul(x, tf.constant(np.ones((a, b), "f"))))
    return x


@pytest.mark.parametrize(
    "outputs, method, passes",
    [
        (5, "forward, 3 tangents, on all observations at once", "0"),
        (2, "reverse, 2 reverse passes", "2"),
    ],
)
def test_explain_jacobians(outputs, method, passes):
    answer = explanation(
        lambda x: network(x, 3, outputs), num_observations=100, operator="jacobians"
    )
    lines = dict(answer.lines)
    assert lines["method"] == method and answer.passes == passes
    assert answer.separable and "along axis 0 of y" in lines["observations"]
    assert answer.memory == 100 * outputs * 3 * 4


def test_explain_jacobians_of_many_coordinates_in_blocks():
    answer = explanation(
        lambda x: network(x, 8, 64), shape=(None, 8), operator="jacobians"
    )
    assert "forward, 8 tangents, in blocks of" in str(answer)
    assert answer.memory is None


def test_explain_jacobians_that_are_coupled_refused_or_zero():
    def explained(build):
        return explanation(build, operator="jacobians")

    coupled = explained(lambda x: tf.sin(x) * tf.reduce_mean(x))
    assert not coupled.separable and coupled.mixing.type == "Mul"
    assert coupled.passes == "3 + 3"
    assert "some are summed up" in str(explained(lambda x: x - tf.reduce_mean(x, 0)))
    assert "Transpose it" in dict(explained(tf.transpose).lines)["refused"]
    assert "zeros" not in str(explained(lambda x: 2 * x))
    assert "does not depend" in str(explained(lambda x: tf.ones([4, 1])))
    with pytest.raises(ValueError, match="operator is 'laplacians', not of"):
        explanation(tf.sin, operator="laplacians")


def test_explanations_read_as_reports_and_show_as_tables():
    x, z = (tf.placeholder(tf.float64, [None, 3], name=name) for name in "xz")
    told = batchhess.explain(tf.reduce_sum(x * z**2), [x, z])
    assert isinstance(told, list) and len(told) == 2
    assert repr(told) == "\n\n".join([told[0].text, told[1].text])
    assert told._repr_html_().count("<table>") == 2
