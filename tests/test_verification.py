"""compute_hessian_error tells right from wrong."""

import numpy as np
import pytest
from cases import turned, wrong_cube
from oracles import run

import batchhess
from batchhess import coupling
from batchhess.checks import assert_of_a_function
from batchhess.compat import tf
from batchhess.ops import table
from batchhess.verification import _judge


def error_of(build, dtype=tf.float64, shape=(None, 3), value=None, **options):
    x = tf.placeholder(dtype, shape, name="x")
    y = build(x)
    with tf.Session() as session:
        return batchhess.compute_hessian_error(y, x, {x: value}, session, **options)


SMOOTH = {
    "exp": lambda x: tf.reduce_sum(tf.exp(x)),
    "network": lambda x: tf.tanh(tf.matmul(x, tf.ones([3, 5], x.dtype))),
    "softmax": lambda x: tf.reduce_logsumexp(x, 1),
    "steep": lambda x: tf.reduce_sum(1e4 * tf.sin(x)) + 1e6,
    "flat": lambda x: tf.reduce_sum(1e-6 * tf.sin(x)),
    "linear": lambda x: tf.reduce_sum(3 * x),
}


@pytest.mark.parametrize("name", sorted(SMOOTH))
@pytest.mark.parametrize("dtype, limit", [(tf.float64, 1e-6), (tf.float32, 1e-2)])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_right_hessians_pass(name, dtype, limit, scale, random):
    value = scale * random.randn(20, 3)
    assert error_of(SMOOTH[name], dtype, value=value) < limit


def entropy(x):
    p = tf.nn.softmax(x)
    return tf.nn.softmax_cross_entropy_with_logits_v2(labels=p, logits=x)


WRONG = {
    "labels": entropy,
    "moments": lambda x: tf.nn.moments(x, [1])[1] ** 2,
    "coupled": lambda x: tf.reduce_sum(tf.sin(x) * tf.reduce_mean(x, 0)),
}


@pytest.mark.parametrize("name", sorted(WRONG))
@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_what_plain_tensorflow_gets_wrong_is_caught(name, dtype, random):
    value = random.randn(6, 3)
    assert error_of(WRONG[name], dtype, value=value, check="never") > 0.05


def test_an_error_in_one_observation_is_found_there(random):
    """The labels of observation 2 alone depend on x."""
    value = random.randn(4, 3)
    mask = tf.constant([[0.0], [0.0], [1.0], [0.0]], tf.float64)

    def build(x):
        labels = mask * tf.nn.softmax(x) + (1 - mask) / 3
        return tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=x)

    found = error_of(build, value=value, check="never")
    assert found > 0.05
    assert (found.x, found.observation) == ("x:0", 2)


def test_another_observation_axis_and_names_in_the_feed(random):
    x = tf.placeholder(tf.float64, (3, None), name="x")
    y = tf.reduce_sum(tf.reduce_sum(x, 0) ** 3)
    with tf.Session() as session:
        found = batchhess.compute_hessian_error(
            y, x, {"x:0": random.randn(3, 5)}, session, batch_axis=1
        )
    assert found < 1e-6


def test_an_intermediate_x_and_a_list(random):
    a = tf.placeholder(tf.float64, (None, 2))
    x, z = tf.sin(a), tf.exp(a)
    y = tf.reduce_sum(x**3 * z, 1)
    with tf.Session() as session:
        found = batchhess.compute_hessian_error(
            y, [x, z], {a: random.randn(4, 2)}, session
        )
    assert found < 1e-6


def test_a_variable_cannot_be_fed():
    v = tf.get_variable("v", initializer=np.ones((2, 3)))
    with tf.Session() as session, pytest.raises(TypeError, match="'v:0' is a Variable"):
        batchhess.compute_hessian_error(tf.reduce_sum(v**2), v, {}, session)


def test_a_session_that_ran_a_random_loop_before_is_told(random):
    """It is not built again, and what has run TensorFlow cannot differentiate."""
    tf.enable_control_flow_v2()
    x = tf.placeholder(tf.float64, (None, 2))
    draw = lambda a: tf.sin(a) * tf.random_uniform([], dtype=tf.float64)  # noqa: E731
    y = tf.while_loop(lambda i, _: i < 2, lambda i, a: (i + 1, draw(a)), (0, x))[1]
    feed = {x: random.randn(3, 2)}
    with tf.Session() as session:
        session.run(y, feed)
        with pytest.raises(RuntimeError, match="this Session ran the model before"):
            batchhess.compute_hessian_error(y, x, feed, session)


@pytest.mark.parametrize("name", sorted(SMOOTH))
@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_check_always_lets_right_hessians_pass(name, dtype, count, random):
    x = tf.placeholder(dtype, (None, 3), name="x")
    y = SMOOTH[name](x)
    (result,) = batchhess.hessians(y, x, check="always")
    (expected,) = batchhess.hessians(y, x)
    value = random.randn(count, 3)
    with tf.Session() as session:
        for _ in range(3):
            result_now, expected_now = session.run([result, expected], {x: value})
    np.testing.assert_array_equal(result_now, expected_now)


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_check_always_catches_what_the_audit_does_not_know(dtype, random):
    """A gradient of the user's own, right once, wrong when differentiated again."""
    x = tf.placeholder(dtype, (None, 3), name="x")
    factor = tf.constant([[0.0]] * 5 + [[1.0]] + [[0.0]], dtype)
    y = tf.reduce_sum(x**3 + factor * wrong_cube(x))
    value = random.uniform(1, 2, (7, 3))
    with tf.Session() as session:
        session.run(batchhess.hessians(y, x), {x: value})
        (checked,) = batchhess.hessians(y, x, check="always")
        with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
            session.run(checked, {x: value})
    assert "not what differences of the gradient say" in refusal.value.message
    assert "worst observation:] [5]" in refusal.value.message.replace("'", "").replace(
        '"', ""
    )


def test_check_always_says_where_it_cannot(random):
    half = tf.placeholder(tf.float16, (None, 3))
    with pytest.raises(ValueError, match="check='always' needs float32 or float64"):
        batchhess.hessians(half**3, half, check="always")


def with_one_wrong(x):
    """x^3, whose second derivative TensorFlow gets wrong in observation 5."""
    factor = tf.cast(tf.equal(tf.range(tf.shape(x)[0]), 5), x.dtype)[:, None]
    return tf.reduce_sum(x**3 + factor * wrong_cube(x))


@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
@pytest.mark.parametrize("other", [np.nan, np.inf, 1e10])
def test_one_observation_hides_nothing_in_another(dtype, other, random):
    value = random.uniform(1, 2, (8, 3))
    value[2] = other
    found = error_of(with_one_wrong, dtype, value=value)
    assert found > 0.05 and found.observation == 5
    x = tf.placeholder(dtype, (None, 3))
    (checked,) = batchhess.hessians(with_one_wrong(x), x, check="always")
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError) as refusal:
            session.run(checked, {x: value})
    assert "not what differences of the gradient say" in refusal.value.message
    assert "[5]" in refusal.value.message


def test_a_gradient_that_is_not_finite_is_told_as_such(random):
    value = random.uniform(1, 2, (8, 3))
    value[2] = np.nan
    build = lambda x: tf.reduce_sum(x**3)  # noqa: E731
    found = error_of(build, value=value)
    assert np.isnan(found) and (found.observation, found.undefined) == (2, 1)
    x = tf.placeholder(tf.float64, (None, 3))
    (checked,) = batchhess.hessians(build(x), x, check="always")
    with tf.Session() as session:
        with pytest.raises(tf.errors.InvalidArgumentError, match="is itself not fin"):
            session.run(checked, {x: value})


def test_a_hessian_of_nan_beside_a_finite_gradient_is_an_error(random):
    """x^1 at 0: a gradient of 1, and a Hessian of NaN in TensorFlow."""
    value = random.uniform(1, 2, (4, 2))
    value[3] = 0
    power = tf.constant(1.0, tf.float64)

    def build(x):
        return tf.reduce_sum(tf.pow(x, power * tf.ones_like(x)))

    x = tf.placeholder(tf.float64, (None, 2))
    with tf.Session() as session:
        plain = session.run(batchhess.hessians(build(x), x)[0], {x: value})
    if np.isfinite(plain).all():
        pytest.skip("this TensorFlow answers numbers")
    found = error_of(build, shape=(None, 2), value=value)
    assert np.isinf(found) and found.observation == 3


SCALED = {
    "at 1e4": (lambda z: z**3, 1e4),
    "at 0.01": (lambda z: tf.sin(z) * z, 0.01),
    "at 1e-4": (lambda z: tf.exp(-z * z), 1e-4),
    "at 1e-10": (lambda z: z / (1 + z * z), 1e-10),
}


@pytest.mark.parametrize("name", sorted(SCALED))
@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_steps_follow_the_scale_of_x(name, dtype, random):
    """Right Hessians pass at every scale, and wrong ones do not."""
    function, scale = SCALED[name]
    value = scale * random.uniform(0.5, 1.5, (30, 2))

    def build(x):
        return tf.reduce_sum(function(x / scale))

    right = error_of(build, dtype, shape=(None, 2), value=value)
    assert right < {tf.float64: 1e-6, tf.float32: 1e-2}[dtype]
    wrong = error_of(
        lambda x: tf.reduce_sum(wrong_cube(x / scale)), dtype, (None, 2), value
    )
    assert wrong > 0.05


# First and second derivatives of functions that vary over 1.
TABLE = {
    "sin": (np.cos, lambda z: -np.sin(z)),
    "exp": (np.exp, np.exp),
    "cube": (lambda z: 3 * z**2, lambda z: 6 * z),
    "square": (lambda z: 2 * z, lambda z: 2 + 0 * z),
    "gauss": (
        lambda z: -z * np.exp(-z * z / 2),
        lambda z: (z * z - 1) * np.exp(-z * z / 2),
    ),
    "cauchy": (
        lambda z: 2 * z / (1 + z * z),
        lambda z: 2 * (1 - z * z) / (1 + z * z) ** 2,
    ),
    "log": (lambda z: 1 / z, lambda z: -1 / z**2),
    "1 / z": (lambda z: -1 / z**2, lambda z: 2 / z**3),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e4, 1, 0.01, 1e-4, 1e-10])
def test_alarms_over_a_table_of_functions_are_right(dtype, scale, random):
    """Of f(x / scale), with numpy alone: no false alarm, and few misses."""
    alarms, missed, agreed, count = 0, 0, 0, 0
    for first, second in TABLE.values():
        x = (scale * random.randn(200, 3)).astype(dtype)

        def slope(y, first=first):
            return (first(y / dtype(scale)) / dtype(scale)).astype(dtype)

        blocks = (second(x / float(scale)) / scale**2)[:, :, None] * np.eye(3)
        for gain in (1, 1.2):
            v = random.uniform(0.5, 1, x.shape) * random.choice([-1, 1], x.shape)
            judged, _ = _judge(
                slope, x, slope(x), gain * blocks, v, 0, tf.as_dtype(dtype)
            )
            alarm = judged.condemned & ~judged.agreed
            if gain == 1:
                alarms, agreed = alarms + alarm.sum(), agreed + judged.agreed.sum()
            else:
                missed, count = missed + (~alarm).sum(), count + len(alarm)
    assert alarms == 0
    assert agreed > 0.99 * count
    assert missed < 0.1 * count


@pytest.mark.parametrize("rounding", [1e-15, 1e-14, 3e-14])
def test_what_is_wrong_is_seen_where_a_sum_has_lost_digits(rounding, random):
    """One step of which the differences are a fluke does not acquit."""
    alarms, missed, count = 0, 0, 0
    for first, second in TABLE.values():
        x = random.randn(200, 3)

        def slope(y, first=first):
            return first(y) + rounding * np.sin(1e12 * y)

        blocks = second(x)[:, :, None] * np.eye(3)
        for gain in (1, 1.2):
            v = random.uniform(0.5, 1, x.shape) * random.choice([-1, 1], x.shape)
            judged, _ = _judge(slope, x, slope(x), gain * blocks, v, 0, tf.float64)
            alarm = judged.condemned & ~judged.agreed
            if gain == 1:
                alarms += alarm.sum()
            else:
                missed, count = missed + (~alarm).sum(), count + len(alarm)
    assert alarms == 0
    assert missed < 0.02 * count


KINKED = {
    "relu": tf.nn.relu,
    "abs": lambda x: tf.abs(x) + x * x,
    "squared relu": lambda x: tf.nn.relu(x) ** 2,
    "maximum": lambda x: tf.maximum(x, 2 * x) * x,
}


@pytest.mark.parametrize("name", sorted(KINKED))
@pytest.mark.parametrize("dtype", [tf.float64, tf.float32])
def test_beside_a_kink_nothing_right_is_called_wrong(name, dtype, random):
    sizes = 10.0 ** -np.arange(1, 13)
    value = np.concatenate([sizes, -sizes, [0.0]])[:, None] * np.ones(2)
    build = KINKED[name]
    found = error_of(build, dtype, (None, 2), value=value)
    assert found < {tf.float64: 1e-5, tf.float32: 3e-2}[dtype]


@pytest.mark.parametrize("method", ["columns", "differences"])
def test_each_output_is_checked_by_differences(method, random):
    x = tf.placeholder(tf.float64, (None, 2))
    y = tf.stack([tf.reduce_sum(x**3, 1), tf.reduce_prod(x, 1)], 1)
    (result,) = batchhess.hessians(
        y,
        x,
        per_output=True,
        method=method,
        check="always" if method == "columns" else "auto",
    )
    value = random.uniform(1, 2, (3, 2))
    with tf.Session() as session:
        answer = session.run(result, {x: value})
    expected = np.zeros((3, 2, 2, 2))
    expected[:, 0] = 6 * value[:, :, None] * np.eye(2)
    expected[:, 1] = 1 - np.eye(2)
    np.testing.assert_allclose(answer, expected, atol=1e-8)


def test_an_error_reads_as_a_sentence_and_stays_a_float():
    found = batchhess.HessianError(0.25, "x:0", 7)
    told = "relative error 0.25 of 'x:0', largest in observation 7"
    assert str(found) == told and repr(found) == "<HessianError: {}>".format(told)
    assert isinstance(found, float) and found == 0.25 and found * 2 == 0.5
    assert str(batchhess.HessianError(0.0, "", 0)) == "no error beyond rounding"
    assert "not finite in observation 3" in str(
        batchhess.HessianError(float("nan"), "x:0", 3)
    )


def escapes(count, dtype_name, small, trials, random):
    """How often a lone pair of `count` observations has equal seeds, by numpy alone."""
    exponents, stretch = coupling.powers_for(dtype_name)
    table = coupling.signed_powers(exponents)
    first = random.randint(0, count, trials)
    pair = np.stack([first, (first + random.randint(1, count, trials)) % count])
    drawn = random.randint(0, stretch, (2, trials))
    same = pair[0] // stretch == pair[1] // stretch
    shifts = np.stack([drawn[0], np.where(same, drawn[0], drawn[1])])
    labels = coupling.label(pair, stretch, random.randint(1, stretch, trials), shifts)
    digits = coupling.places(labels, 2 * exponents)
    small = np.array(small)[:, None]
    seeds = [np.where(small, table[d], 1 / table[d]) for d in digits]
    return np.all([s[0] == s[1] for s in seeds], axis=0).mean()


@pytest.mark.parametrize(
    "small", [(True, True), (True, False), (False, False)], ids=str
)
@pytest.mark.parametrize("dtype_name, limit", [("float32", 1e-3), ("float16", 1e-2)])
def test_a_lone_coupled_pair_seldom_escapes(dtype_name, limit, small, random):
    assert escapes(200, dtype_name, small, 200000, random) < limit
    # Of two stretches: 1 in 1021, or 1 in 139.
    assert escapes(10000, dtype_name, small, 200000, random) < 1.5 * limit


def test_no_two_observations_of_a_stretch_have_equal_seeds(random):
    for dtype_name in ("float16", "float32"):
        exponents, stretch = coupling.powers_for(dtype_name)
        for stride in random.randint(1, stretch, 20):
            labels = coupling.label(np.arange(stretch), stretch, stride, 5)
            pairs = zip(*coupling.places(labels, 2 * exponents))
            assert len(set(pairs)) == stretch


@pytest.mark.parametrize(
    "dtype, weak", [(tf.float64, 1e-8), (tf.float32, 1e-4), (tf.float16, 1.0)]
)
def test_a_lone_weak_pair_among_200_fails_every_run(dtype, weak, random):
    x = tf.placeholder(dtype, (None, 2))
    pair = tf.placeholder(tf.int32, [2])
    a, b = tf.unstack(tf.gather(x, pair))
    y = tf.reduce_sum(tf.sin(x) * x) + weak * tf.reduce_sum(a * b)
    (result,) = batchhess.hessians(y, x)
    with tf.Session() as session:
        for _ in range(30):
            feed = {x: random.randn(200, 2), pair: random.choice(200, 2, replace=False)}
            with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
                session.run(result, feed)


def test_a_pair_whose_numbers_are_near_overflow_fails_every_run(random):
    x = tf.placeholder(tf.float32, (None, 2))
    y = 1e35 * (tf.reduce_sum(tf.sin(x) * x) + tf.reduce_sum(x[0] * x[1]))
    (result,) = batchhess.hessians(y, x)
    with tf.Session() as session:
        for _ in range(40):
            with pytest.raises(tf.errors.InvalidArgumentError, match="are coupled"):
                session.run(result, {x: random.randn(20, 2)})


OUTLIERS = {
    "kernel": (lambda x: tf.exp(-tf.reduce_sum(x**2, 1) / 2), 13 / np.sqrt(2)),
    "softplus at -70": (tf.nn.softplus, -70),
    "softplus at -85": (tf.nn.softplus, -85),
    "exp at 80": (tf.exp, 80),
    "exp at -86": (tf.exp, -86),
    "tanh": (tf.tanh, 40),
}


@pytest.mark.parametrize("name", sorted(OUTLIERS))
def test_separable_but_unproven_outliers_pass(name, random):
    build, outlier = OUTLIERS[name]
    x = tf.placeholder(tf.float32, (None, 2))
    z = tf.matmul(tf.eye(tf.shape(x)[0]), x)  # The proof takes this for a mix.
    (result,) = batchhess.hessians(build(z), x)
    value = random.randn(40, 2)
    value[::7] = outlier
    with tf.Session() as session:
        for _ in range(12):
            assert np.isfinite(session.run(result, {x: value})).all()


@pytest.mark.parametrize("dtype, share", [("float32", 0.15), ("float64", 1e-3)])
def test_a_small_share_of_a_hessian_that_is_wrong_is_caught(dtype, share):
    """A derivative that its author has made too large by a share."""

    @tf.custom_gradient
    def double(x):
        return 2 * x, lambda dy: 2 * (1 + share) * dy

    @tf.custom_gradient
    def square(x):
        return x**2, lambda dy: dy * double(x)

    x = tf.placeholder(dtype, [None, 3])
    for function, is_right in ((square, False), (tf.square, True)):
        (found,) = batchhess.hessians(function(x), x, check="always")
        value = np.random.RandomState(0).randn(50, 3)
        if is_right:
            np.testing.assert_allclose(run(found, {x: value})[7], 2 * np.eye(3))
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="differences"):
                run(found, {x: value})


def test_a_gradient_that_is_of_no_function_fails_the_run(monkeypatch, random):
    """Of an op that the table does not know."""
    for version in ("V2", "V3"):
        monkeypatch.delitem(table._TABLE, "ImageProjectiveTransform" + version)
    x = tf.placeholder(tf.float64, (None, 9))
    y = tf.reduce_sum(turned(tf.reshape(x, [-1, 3, 3, 1])) ** 2)
    (result,) = batchhess.hessians(y, x)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="is not symmetric.*ImageP"
    ):
        run(result, {x: random.randn(4, 9)})


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hessians_must_be_symmetric(count, random):
    x = tf.placeholder(tf.float64, (None, 3))
    blocks = random.randn(count, 3, 3)
    given = tf.placeholder(tf.float64, (None, 3, 3))
    check = assert_of_a_function([x**2], x**2, x, given, [])
    run(check, {given: blocks + np.swapaxes(blocks, 1, 2)})
    blocks[:1] = np.nan  # Which is there to be seen.
    if count < 2:
        run(check, {given: blocks})
        return
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="worst observation:. .[12]"
    ):
        run(check, {given: blocks})
