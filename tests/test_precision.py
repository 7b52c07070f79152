"""Models that compute in less precise numbers than x and y are given in."""

import numpy as np
import pytest
from oracles import run, unoptimized

import batchhess
from batchhess.compat import IS_V1, tf

WIDE = ["float32", "float64"]
HALVES = ["float16"] if IS_V1 else ["float16", "bfloat16"]  # 1.15 lacks its kernels.
COUPLED = tf.errors.InvalidArgumentError


def centered(h):
    return tf.square(h - tf.reduce_mean(h, 0))


def normalized(h):
    mean = tf.reduce_mean(h, 0)
    variance = tf.reduce_mean(tf.square(h - mean), 0)
    return tf.square((h - mean) / tf.sqrt(variance + 1)) * h


@pytest.mark.parametrize("answer", ["hessians", "jacobians"])
@pytest.mark.parametrize("model", [centered, normalized])
@pytest.mark.parametrize("wide", WIDE + ["float16"])
def test_coupled_observations_fail_the_run(wide, model, answer, random):
    x = tf.placeholder(wide, [None, 3])
    y = tf.cast(model(tf.cast(x, tf.float16)), wide)
    (result,) = getattr(batchhess, answer)(y, x)
    with unoptimized() as session:
        for count in (4, 300):
            for _ in range(5):
                with pytest.raises(COUPLED, match="are coupled"):
                    session.run(result, {x: 0.7 * random.randn(count, 3)})


def layer_norm(h):
    mean, variance = tf.nn.moments(h, [1], keep_dims=True)
    return tf.tanh((h - mean) / tf.sqrt(variance + 0.5)) ** 3


RIGHT = {
    "layer norm": layer_norm,
    "softmax": lambda h: tf.square(tf.nn.softmax(h)),
    "loop": lambda h: tf.map_fn(lambda r: tf.reduce_sum(tf.tanh(r) * r), h)[:, None],
    "not proven": lambda h: tf.linalg.diag_part(tf.matmul(tf.tanh(h), h, False, True))[
        :, None
    ],
}


@pytest.mark.parametrize("answer", ["hessians", "jacobians"])
@pytest.mark.parametrize("name", sorted(RIGHT))
@pytest.mark.parametrize(
    "wide, narrow",
    [("float32", half) for half in HALVES] + [("float64", "float32")],
)
def test_right_models_pass(wide, narrow, name, answer, random):
    """What a half answers is compared with what the model answers in float64."""
    value = np.round(random.randn(60, 3) * 8) / 8  # Halves of x are exact.

    def of(narrow, wide):
        x = tf.placeholder(wide, [None, 3])
        y = tf.cast(RIGHT[name](tf.cast(x, narrow)), wide)
        return getattr(batchhess, answer)(y, x)[0], {x: value}

    expected = run(*of("float64", "float64"))
    result, feed = of(narrow, wide)
    limit = {"float16": 2e-2, "bfloat16": 2e-1, "float32": 1e-5}[narrow]
    limit *= np.abs(expected).max()
    with unoptimized() as session:
        for _ in range(3):
            found = session.run(result, feed)
            np.testing.assert_allclose(found, expected, atol=limit)
