"""Elementwise ops, their gradients as parts of f, and special functions."""

from batchhess.compat import raw_ops, tf
from op_programs.base import (
    ABOVE_ONE,
    FAR,
    POSITIVE,
    REAL,
    UNIT,
    constant,
    double,
    images,
    pair,
    program,
    slope,
)

# Elementwise.
program("acos", tf.acos, UNIT, [0.0, 0.9, -0.9])
program("acosh", tf.acosh, ABOVE_ONE, [50.0])
program("asin", tf.asin, UNIT, [0.0, 0.9, -0.9])
program("asinh", tf.asinh, REAL, FAR)
program("atan", tf.atan, REAL, FAR)
program("atanh", tf.atanh, UNIT, [0.0, 0.9, -0.9])
program("cos", tf.cos, REAL, FAR)
program("cosh", tf.cosh, REAL, [0.0, 9.0, -9.0])
program("digamma", tf.digamma, POSITIVE, [30.0, -0.5, -2.3])
program("erf", tf.math.erf, REAL, [0.0, 7.0, -7.0])
program("erfc", tf.math.erfc, REAL, [0.0, 7.0, -7.0])
program("exp", tf.exp, REAL, [0.0, 9.0, -40.0])
program("expm1", tf.math.expm1, REAL, [0.0, 9.0, -40.0])
program("lgamma", tf.lgamma, POSITIVE, [1.0, 2.0, 30.0, -0.5, -2.3])
program("log", tf.math.log, POSITIVE, [1.0, 300.0])
program("log1p", tf.math.log1p, POSITIVE, [0.0, 300.0, -0.9])
program("reciprocal", tf.math.reciprocal, POSITIVE, [300.0, -1.0])
program("inv", lambda x: raw_ops.Inv(x=x), POSITIVE, [300.0, -1.0])
program("rsqrt", tf.math.rsqrt, POSITIVE, [300.0])
program("sigmoid", tf.sigmoid, REAL, [0.0, 40.0, -40.0])
program("sin", tf.sin, REAL, FAR)
program("sinh", tf.sinh, REAL, [0.0, 9.0, -9.0])
program("softplus", tf.nn.softplus, REAL, [0.0, 40.0, -40.0, 700.0])
program("log_sigmoid", tf.math.log_sigmoid, REAL, [0.0, 40.0, -40.0])
program("sqrt", tf.sqrt, POSITIVE, [300.0])
program("square", tf.square, REAL, FAR)
program("tan", tf.tan, UNIT, [0.0])
program("tanh", tf.tanh, REAL, [0.0, 20.0, -20.0])
program("abs", lambda x: tf.abs(x) ** 3, REAL, kinks=[0.0])
program("elu", tf.nn.elu, REAL, [30.0, -30.0], kinks=[0.0])
program("selu", tf.nn.selu, REAL, [30.0, -30.0], kinks=[0.0])
program("relu", lambda x: tf.nn.relu(x) ** 3, REAL, kinks=[0.0])
program("relu6", lambda x: tf.nn.relu6(3 * x) ** 3, REAL, [9.0], kinks=[0.0, 2.0])
program("leaky_relu", lambda x: tf.nn.leaky_relu(x) ** 3, REAL, kinks=[0.0])
program("leaky_relu_0", lambda x: tf.nn.leaky_relu(x, 0.0) ** 3, REAL, kinks=[0.0])
program("softsign", tf.nn.softsign, REAL, [30.0, -30.0])
program("pow", lambda x: tf.pow(x, x), POSITIVE, [1.0])
program("pow_of_two", lambda x: tf.pow(double(2), x), REAL, [0.0])
program("squared", lambda x: x**2.0, REAL, [0.0, -1.0])
program("cubed", lambda x: x**3.0, REAL, [0.0, -1.0])
program("power", lambda x: tf.pow(*pair(x)), POSITIVE, [1.0])
program("inverse_power", lambda x: x**-1.5, POSITIVE, [1.0])
program("atan2", lambda x: tf.atan2(*pair(x)), POSITIVE, [-1.0, 1.0])
program("atan2_around", lambda x: tf.atan2(x[:, :8], 3.0 - x[:, 8:]), REAL, [0.0])
program("div", lambda x: raw_ops.Div(x=x[:, :8], y=x[:, 8:]), POSITIVE, [-1.0])
program("division", lambda x: x[:, :8] / x[:, 8:], POSITIVE, [-1.0, 50.0])
# At 0 it fails the run.
program(
    "div_no_nan",
    lambda x: tf.math.divide_no_nan(x[:, :8], x[:, 8:]),
    POSITIVE,
    [-1.0],
)
program("mul_no_nan", lambda x: tf.math.multiply_no_nan(x[:, :8], constant(8)))
program("squared_difference", lambda x: tf.math.squared_difference(*pair(x)))
program("maximum", lambda x: tf.maximum(*pair(x)) ** 3, REAL, kinks=[0.5])
program("minimum", lambda x: tf.minimum(*pair(x)) ** 3, REAL, kinks=[0.5])
program("maximum_0", lambda x: tf.maximum(x, 0) ** 3, REAL, kinks=[0.0])
program(
    "clip_by_value",
    lambda x: (
        raw_ops.ClipByValue(
            t=x,
            clip_value_min=tf.constant(-1.0, tf.float64),
            clip_value_max=tf.constant(1.0, tf.float64),
        )
        ** 3
    ),
    (-3.0, 3.0),
    [5.0, -5.0],
    kinks=[1.0, -1.0],
    since="2",
)
program("clip", lambda x: tf.clip_by_value(x, -1.0, 1.0) ** 3, REAL, kinks=[1.0])
program("add", lambda x: (x[:, :8] + x[:, 8:]) ** 3)
program("raw_add", lambda x: raw_ops.Add(x=x[:, :8], y=x[:, 8:]) ** 3)
program("add_v2", lambda x: raw_ops.AddV2(x=x[:, :8], y=x[:, 8:9]) ** 3)
program("sub", lambda x: (x[:, :8] - x[:, 8:9]) ** 3)
program("add_n", lambda x: tf.add_n(list(pair(x)) + [x[:, 2:10]]) ** 3)
program("mul", lambda x: x[:, :8] * x[:, 8:9] * x[:, 1:9])
program("neg", lambda x: (-x) ** 3)
program("cast", lambda x: raw_ops.Cast(x=x, DstT=tf.float64) ** 3)
program(
    "cast_to_float32",
    lambda x: tf.cast(tf.exp(tf.cast(x, tf.float32)), tf.float64),
    step=0.05,
    tolerance=1e-4,
)
program("bias_add", lambda x: tf.nn.bias_add(images(x), constant(4)) ** 3)
program(
    "bias_add_nchw",
    lambda x: tf.nn.bias_add(images(x), constant(2), data_format="NCHW") ** 3,
)
program("bias_add_v1", lambda x: raw_ops.BiasAddV1(value=x, bias=constant(16)) ** 3)
program("select", lambda x: raw_ops.Select(condition=x > 0, x=x**3, y=tf.exp(x)))
program(
    "select_of_rows",
    lambda x: raw_ops.Select(condition=x[:, 0] > 0, x=x**3, y=tf.exp(x)),
)
program(
    "select_v2", lambda x: raw_ops.SelectV2(condition=x[:, :1] > 0, t=x**3, e=tf.exp(x))
)
program(
    "where_of_unselected",
    lambda x: tf.where(x > 0, x**3, tf.zeros_like(x)),
    special=[-1.0],
)
program("xlogy", lambda x: tf.math.xlogy(*pair(x)), POSITIVE, [1.0])
program("xlogy_at_0", lambda x: tf.math.xlogy(x, x + 1), POSITIVE, [0.0])
program("xlogy_of_constant", lambda x: tf.math.xlogy(double(2), x), POSITIVE)
program("xdivy", lambda x: tf.math.xdivy(*pair(x)), POSITIVE, [-1.0])
program(
    "xdivy_at_0",
    lambda x: tf.math.xdivy(x, x + 1),
    POSITIVE,
    [0.0],
    alike=lambda x: x / (x + 1),
)
program(
    "xlog1py",
    lambda x: tf.math.xlog1py(x, x[:, :1]),
    POSITIVE,
    [0.0],
    alike=lambda x: x * tf.math.log1p(x[:, :1]),
    needs="Xlog1py",
)
program(
    "piecewise_constant_factors",
    lambda x: x**2 * tf.sign(x) * tf.floor(x) * tf.math.rint(x + 0.1),
    POSITIVE,
)

# Gradients, as parts of f.
program("elu_grad", slope(tf.nn.elu), REAL, [-30.0], kinks=[0.0])
program("selu_grad", slope(tf.nn.selu), REAL, [-30.0], kinks=[0.0])
program("inv_grad", lambda x: raw_ops.InvGrad(y=x[:, :8], dy=x[:, 8:]), REAL, FAR)
program("reciprocal_grad", slope(tf.math.reciprocal), POSITIVE, [-1.0])
program("rsqrt_grad", slope(tf.math.rsqrt), POSITIVE)
program("sqrt_grad", slope(tf.sqrt), POSITIVE)
program("sigmoid_grad", slope(tf.sigmoid), REAL, [40.0, -40.0])
program(
    "softplus_grad",
    lambda x: raw_ops.SoftplusGrad(gradients=x[:, :8], features=x[:, 8:]),
    REAL,
    [40.0, -40.0],
)
program("tanh_grad", slope(tf.tanh), REAL, [20.0])
program(
    "relu_grad", slope(lambda x: tf.square(tf.square(tf.nn.relu(x)))), REAL, kinks=[0.0]
)
program(
    "relu6_grad",
    slope(lambda x: tf.square(tf.square(tf.nn.relu6(x)))),
    REAL,
    kinks=[0.0],
)
program(
    "leaky_grad",
    slope(lambda x: tf.square(tf.square(tf.nn.leaky_relu(x)))),
    kinks=[0.0],
)

# Special functions.
program("bessel_i0e", tf.math.bessel_i0e, POSITIVE, [30.0, -2.0])
program("bessel_i1e", tf.math.bessel_i1e, POSITIVE, [30.0, -2.0])
program("betainc", lambda x: tf.math.betainc(double(2), double(3), x), (0.1, 0.9))
program("igamma", lambda x: tf.math.igamma(double(2.5), x), POSITIVE)
program("igammac", lambda x: tf.math.igammac(double(2.5), x), POSITIVE)
program("polygamma", lambda x: tf.math.polygamma(tf.ones([], tf.float64), x), POSITIVE)
program("zeta", lambda x: tf.math.zeta(double(2.5), x), POSITIVE)
program("floor_mod", lambda x: tf.math.floormod(x, 3.0) ** 3, (0.3, 2.0), [-1.0, 4.0])
program(
    "floor_mod_by", lambda x: tf.math.floormod(double(2), x) ** 3, (0.75, 0.95), [-0.8]
)
program("erfinv", lambda x: tf.math.erfinv(x), UNIT, [0.0], needs="Erfinv")
for _name in ["BesselJ0", "Dawsn", "FresnelCos", "FresnelSin"]:
    program(
        _name, lambda x, n=_name: getattr(raw_ops, n)(x=x), REAL, [0.0], needs=_name
    )
for _name in ["I0", "I1", "J1", "K0", "K0e", "K1", "K1e", "Y0", "Y1"]:
    _name = "Bessel" + _name
    program(_name, lambda x, n=_name: getattr(raw_ops, n)(x=x), POSITIVE, needs=_name)
for _name in ["Expint", "Spence"]:
    program(_name, lambda x, n=_name: getattr(raw_ops, n)(x=x), POSITIVE, needs=_name)
program("ndtri", lambda x: tf.math.ndtri(x), (0.1, 0.9), [0.5], needs="Ndtri")
