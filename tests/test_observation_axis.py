"""The proof of separability, and the check that runs where there is none."""

import numpy as np
import pytest
import tensorflow
from cases import CASES
from oracles import difference_blocks, run
from random_programs import K, N, draw, outcomes

import batchhess
from batchhess.analysis.proof import prove, walk_from
from batchhess.compat import tf
from batchhess.ops.states import UNPROVEN

COUPLED = tf.errors.InvalidArgumentError


def placeholder(*shape, dtype=tf.float64):
    return tf.placeholder(dtype, shape, name="x")


def is_proven(y, x, batch_axis=0):
    return prove([y], walk_from(x, batch_axis)).kind != UNPROVEN


def test_no_random_coupled_program_is_proven_and_every_ruled_one_is():
    found = list(outcomes(160, seed=11))
    assert sum(o.coupled for o in found) > 40
    assert not [o.program.steps for o in found if o.coupled and o.proven]
    ruled = [o for o in found if not o.program.coupling]
    assert len(ruled) > 40
    assert not [(o.program.steps, o.proof.op.type) for o in ruled if not o.proven]


@pytest.mark.parametrize("seed", range(30))
def test_a_random_program_is_right_or_refused(seed):
    random = np.random.RandomState(1000 + seed)
    x = placeholder(None, K)
    program = draw(random, x)
    value = random.uniform(-1, 1, (N, K))
    expected = difference_blocks(program.y, x, value)
    (exact,) = batchhess.hessians(program.y, x, method="observations")
    scale = np.abs(expected).max() + 1e-3
    np.testing.assert_allclose(run(exact, {x: value}), expected, atol=1e-5 * scale)
    try:
        result = run(batchhess.hessians(program.y, x)[0], {x: value})
    except COUPLED as refusal:
        assert program.coupling
        assert "observations of x:0 are coupled" in refusal.message
    else:
        np.testing.assert_allclose(result, expected, atol=1e-5 * scale)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_closed_form_is_proven(case):
    if case.name == "gathered_parameters":
        assert case.value.shape[0] == 1
    shape = [
        None if a == case.batch_axis else d for a, d in enumerate(case.value.shape)
    ]
    x = placeholder(*shape)
    assert is_proven(case.build(x), x, case.batch_axis)


LAYOUTS = {
    "batch_matmul_both": lambda x: tf.matmul(
        x[:, :, None] * x[:, None, :], x[:, :, None]
    ),
    "rows_times_columns_of_one": lambda x: tf.reduce_sum(
        tf.matmul(x, tf.tanh(x), transpose_a=True)
    ),
    "transposed_dense": lambda x: tf.tanh(
        tf.matmul(tf.ones([2, 4], tf.float64), x, transpose_b=True)
    ),
    "concat_of_rows_then_sum": lambda x: tf.reduce_sum(tf.concat([x, 2 * x], 0) ** 2),
    "rows_gathered": lambda x: tf.gather(x, [0, 2]) ** 3,
    "rows_sliced": lambda x: x[1:] * tf.sin(x[1:]),
    "flat": lambda x: tf.reduce_sum(tf.exp(tf.reshape(x, [-1]))),
    "column_by_gather_nd": lambda x: (
        tf.gather_nd(
            x,
            tf.stack(
                [tf.range(tf.shape(x)[0]), tf.ones_like(tf.range(tf.shape(x)[0]))], 1
            ),
        )
        ** 3
    ),
    "boolean_mask": lambda x: tf.boolean_mask(x, tf.reduce_sum(x, 1) > 0) ** 2,
    "placeholder_with_default": lambda x: (
        tf.placeholder_with_default(x, (None, None)) ** 3
    ),
    "dropout": lambda x: tf.nn.dropout(x, rate=0.5) ** 2,
    "while_v2": lambda x: tf.while_loop(
        lambda i, _: i < 3, lambda i, a: (i + 1, tf.tanh(a) * x), (0, x)
    )[1],
    "dense layer over time": lambda x: tf.tanh(
        tf.tensordot(tf.reshape(x, [-1, 2, 2]), tf.ones([2, 3], tf.float64), 1)
    ),
    "losses of steps": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.one_hot([0, 1] * 4, 2, dtype=tf.float64),
        logits=tf.reshape(x, [-1, 2]),
    ),
    "recurrence over time": lambda x: tf.scan(
        lambda a, b: tf.tanh(a + b), tf.transpose(tf.reshape(x, [-1, 2, 2]), [1, 0, 2])
    ),
    "mean_of_losses": lambda x: tf.reduce_mean(tf.reduce_logsumexp(x, 1)) * 3 + 1,
    "one_hot": lambda x: (
        tf.reduce_sum(tf.one_hot(tf.range(4), 4, dtype=tf.float64) * x, 1) ** 2
    ),
    "branches": lambda x: tf.cond(
        tf.reduce_sum(x) > 0, lambda: tf.sin(x), lambda: x * x
    ),
}


def loop(x, body, start):
    return tf.while_loop(
        lambda i, *_: i < 3, lambda i, *a: (i + 1,) + body(i, *a), (0,) + start
    )[1]


@tensorflow.function
def picked(x, i):
    return tf.gather(x, i)


def two(dtype=tf.float64):
    return tf.ones([2], dtype)


# What a loop or a function picks may be another observation at each step or call.
PICKED_ANEW = {
    "row of each step": lambda x: loop(
        x, lambda i, a: (tf.sin(a + tf.gather(x, i)),), (two(),)
    ),
    "row of each step, sliced": lambda x: loop(
        x, lambda i, a: (tf.sin(a) * x[i],), (two(),)
    ),
    "rows rolled by the step": lambda x: loop(
        x, lambda i, a: (tf.sin(a) * tf.roll(x, i, 0),), (tf.ones_like(x),)
    ),
    "rows gathered anew": lambda x: loop(
        x,
        lambda i, a: (tf.sin(a) * tf.gather(x, (tf.range(4) + i) % 4),),
        (tf.ones_like(x),),
    ),
    "carried over by a step": lambda x: (
        loop(x, lambda i, a, b: (tf.gather(x, i), a * b + a), (two(), two()))
        * loop(x, lambda i, a, b: (a * b, tf.gather(x, i)), (two(), two()))
    ),
    "a function called twice": lambda x: picked(x, 0) * picked(x, 1),
    "scan": lambda x: tf.scan(lambda a, r: tf.sin(a + r), x),
}


@pytest.mark.parametrize("name", sorted(PICKED_ANEW))
def test_what_is_picked_anew_at_each_step_is_not_proven(name, random):
    tf.enable_control_flow_v2()
    x = placeholder(None, 2)
    y = tf.reduce_sum(PICKED_ANEW[name](x))
    assert not is_proven(y, x)
    value = random.uniform(0.5, 1, (4, 2))
    (gradient,) = tf.gradients(y, x)
    with tf.Session() as session:
        gradient = tf.convert_to_tensor(gradient)
        before = session.run(gradient, {x: value})
        value[0] += 1
        assert (session.run(gradient, {x: value}) != before)[1:].any()


# What a slice picks at a place is not the observation of that place.
PICKED_BY_A_SLICE = {
    "the other way round": lambda x: x[::-1] * tf.sin(x),
    "the first and the last": lambda x: x[:2] * tf.sin(x[-2:]),
    "odd and even ones": lambda x: x[::2] * tf.sin(x[1::2]),
    "each next one": lambda x: x[:-1] * tf.sin(x[1:]),
}


@pytest.mark.parametrize("name", sorted(PICKED_BY_A_SLICE))
def test_what_a_slice_puts_beside_others_is_not_proven(name, random):
    x = placeholder(None, 3)
    y = tf.reduce_sum(PICKED_BY_A_SLICE[name](x))
    assert not is_proven(y, x)
    value = random.uniform(0.5, 1, (4, 3))
    (gradient,) = tf.gradients(y, x)
    with tf.Session() as session:
        before = session.run(gradient, {x: value})
        value[0] += 1
        assert (session.run(gradient, {x: value}) != before)[1:].any()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_layouts_are_followed(name, random):
    tf.enable_control_flow_v2()
    x = placeholder(None, 4)
    y = LAYOUTS[name](x)
    assert is_proven(y, x), prove([y], walk_from(x, 0))


def test_a_v1_cond_is_followed():
    tf.disable_control_flow_v2()
    x = placeholder(None, 4)
    y = tf.cond(tf.reduce_sum(x) > 0, lambda: tf.sin(x), lambda: tf.tanh(x))
    assert is_proven(y, x)


def test_an_op_without_a_rule_proves_nothing_and_is_named():
    x = placeholder(None, 4)
    y = tf.image.crop_and_resize(
        tf.reshape(tf.tanh(tf.cast(x, tf.float32)), [-1, 2, 2, 1]),
        [[0.0, 0.0, 1.0, 1.0]],
        [0],
        [2, 2],
    )
    proof = prove([y], walk_from(x, 0))
    assert proof.kind == UNPROVEN
    assert (proof.op.type, proof.reason) == ("CropAndResize", "has no rule")


@pytest.mark.parametrize(
    "dtype, weak", [(tf.float32, 1e-3), (tf.float64, 1e-8)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("count", [2, 3, 40])
def test_weak_coupling_fails_the_run(dtype, weak, count, random):
    x = placeholder(None, 3, dtype=dtype)
    y = tf.reduce_sum(tf.sin(x) * x) + weak * tf.reduce_sum(x[0] * x[1])
    (result,) = batchhess.hessians(y, x)
    for _ in range(5):
        with pytest.raises(COUPLED, match="of x:0 are coupled in .*check=never"):
            run(result, {x: random.randn(count, 3)})


@pytest.mark.parametrize("count", [3, 8, 61])
def test_coupling_that_cancels_for_constant_seeds_fails_the_run(count, random):
    """The off-diagonal blocks of each row add up to zero: the columns are right."""
    x = placeholder(None, 2)
    ring = tf.roll(x, 1, 0) + tf.roll(x, -1, 0) - 2 * x
    y = tf.reduce_sum(x * ring) + tf.reduce_sum(2 * x * x) + tf.reduce_sum(x**4)
    (result,) = batchhess.hessians(y, x)
    with pytest.raises(COUPLED, match="are coupled"):
        run(result, {x: random.randn(count, 2)})


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_separable_but_unproven_passes(dtype, count, random):
    """A product with the identity over observations: the proof takes it for a mix."""
    x = placeholder(None, 3, dtype=dtype)
    z = tf.matmul(tf.eye(tf.shape(x)[0], dtype=dtype), x)
    y = tf.reduce_sum(z * z * z)
    assert not is_proven(y, x)
    value = random.uniform(0.5, 1, (count, 3))
    (result,) = batchhess.hessians(y, x)
    for _ in range(3):
        result_now = run(tf.cast(result, tf.float64), {x: value})
    expected = np.array([np.diag(6 * row) for row in value]).reshape(count, 3, 3)
    tolerance = {"float16": 2e-2, "bfloat16": 1e-1}.get(dtype.name, 1e-5)
    np.testing.assert_allclose(result_now, expected, atol=tolerance)


def test_saturated_rows_are_no_false_alarm(random):
    """Blocks of 1e-9 that rounding dominates: scaled seeds round alike."""
    x = placeholder(None, 3, dtype=tf.float32)
    z = tf.matmul(tf.eye(tf.shape(x)[0]), x)
    y = tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.one_hot(tf.zeros(tf.shape(x)[0], tf.int32), 3), logits=z
    )
    value = random.randn(50, 3) + np.array([20.0, 0, 0])
    result = run(batchhess.hessians(y, x)[0], {x: value})
    assert np.isfinite(result).all()


def test_the_check_can_be_switched_off(random):
    x = placeholder(None, 1)
    y = x[0, 0] ** 2 + x[1, 0] ** 2 + x[0, 0] * x[1, 0]
    value = random.randn(2, 1)
    with pytest.raises(COUPLED):
        run(batchhess.hessians(y, x)[0], {x: value})
    result = run(batchhess.hessians(y, x, check="never")[0], {x: value})
    np.testing.assert_array_equal(result, [[[3.0]], [[3.0]]])
    with pytest.raises(ValueError, match="check must be one of 'auto', 'always'"):
        batchhess.hessians(y, x, check="sometimes")


def test_per_output_is_checked_too(random):
    x = placeholder(None, 2)
    y = tf.stack([tf.reduce_sum(x**3, 1), x[:, 0] * tf.reduce_mean(x)], 1)
    with pytest.raises(ValueError, match="on an axis that the graph does not tell"):
        batchhess.hessians(y, x, per_output=True)


def test_per_output_of_a_y_with_another_axis_first_is_refused(random):
    x = placeholder(None, 2)
    y = tf.stack([tf.reduce_sum(x**3, 1), tf.reduce_prod(x, 1)], 0)  # [M, N]
    with pytest.raises(ValueError, match="on axis 1. Transpose it"):
        batchhess.hessians(y, x, per_output=True)
    summed = tf.reduce_sum(x[:, :, None] ** 3, 0)
    with pytest.raises(ValueError, match="summed over them"):
        batchhess.hessians(summed, x, per_output=True)


def test_what_is_proven_costs_nothing(graph):
    x = placeholder(None, 2)
    batchhess.hessians(tf.reduce_sum(tf.tanh(x)), x)
    assert not [op for op in graph.get_operations() if op.type == "Assert"]


@pytest.mark.parametrize("width", [2, 6, 9])
def test_a_row_that_holds_parts_of_several_observations_couples_them(width):
    """Of x [N, 3] as rows of 2, 6 or 9."""
    x = tf.placeholder(tf.float64, (None, 3))
    y = tf.reduce_sum(tf.reduce_prod(tf.reshape(x, [-1, width]), 1))
    assert not batchhess.explain(y, x)[0].separable
    (result,) = batchhess.hessians(y, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(result, {x: np.arange(1.0, 19).reshape(6, 3)})


@pytest.mark.parametrize("of", ["cumsum", "concat"])
def test_sums_of_what_is_not_followed_are_sums(of):
    """A shape that only the run tells hides where the observations are."""
    x = tf.placeholder(tf.float64, (None, 3))
    flat = tf.reshape(x, tf.placeholder_with_default([-1], [None]))
    if of == "cumsum":
        y = tf.reduce_sum(tf.sin(tf.cumsum(flat)))
    else:
        total = tf.reshape(tf.reduce_sum(flat), [1])
        y = tf.reduce_sum(tf.sin(tf.concat([total, flat], 0)))
    assert not batchhess.explain(y, x)[0].separable
    (result,) = batchhess.hessians(y, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
        run(result, {x: np.linspace(-1, 1, 12).reshape(4, 3)})


@pytest.mark.parametrize("of_all", [True, False])
def test_a_branch_that_sums_over_observations_makes_it_a_sum(of_all, control_flow):
    x, choice = tf.placeholder(tf.float64, (None, 3)), tf.placeholder(tf.bool, [])
    z = tf.cond(
        choice, lambda: tf.reduce_sum(x, 0), lambda: tf.square(tf.reshape(x, [-1])[:3])
    )
    y = tf.reduce_sum(tf.sin(z))
    (result,) = batchhess.hessians(y, x)
    value = np.array([[0.5, -1.2, 0.8], [1.5, 0.3, -0.4]])
    feed = {x: value, choice: of_all}
    if of_all:
        with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
            run(result, feed)
    else:
        expected = np.zeros((2, 3, 3))
        a = value[0]
        expected[0] = np.diag(2 * np.cos(a * a) - 4 * a * a * np.sin(a * a))
        np.testing.assert_allclose(run(result, feed), expected, atol=1e-12)


@pytest.mark.parametrize("dtype, stretch", [("float16", 139), ("float64", 1021)])
def test_a_pair_as_far_apart_as_a_stretch_is_told_apart(dtype, stretch, random):
    """The labels of observations come again after a stretch, but shifted."""
    x = tf.placeholder(dtype, (None, 1))
    y = tf.reduce_sum(x**2) + tf.reduce_sum(x[2] * x[2 + stretch])
    (result,) = batchhess.hessians(y, x)
    value = random.uniform(0.5, 1, (stretch + 5, 1))
    with tf.Session() as session:
        failures = 0
        for _ in range(3):
            try:
                session.run(result, {x: value})
            except tf.errors.InvalidArgumentError as error:
                assert "are coupled" in str(error)
                failures += 1
    assert failures >= 2
