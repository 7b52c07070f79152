"""Programs for the ops of the table, each a function of its own 16 coordinates."""

import collections

import numpy as np
import tensorflow

from batchhess.compat import IS_V1, raw_ops, tf

UNIT, POSITIVE, REAL, ABOVE_ONE = (-0.9, 0.9), (0.3, 2.0), (-2.0, 2.0), (1.2, 3.0)

# build: function of x [N, 16] that answers [N, ...], or a scalar sum of all. domain:
# the interval that x is drawn from. special: values that stand in x once here and
# there, once everywhere, where the second derivative has a value. kinks: the same where
# it is a convention, TensorFlow's own. step: the distance of the differences.
# tolerance: relative to the largest element. blocks: whether method='symmetric' takes
# it. alike: the same, where TensorFlow's first derivative of `build` is wrong.
Program = collections.namedtuple(
    "Program", "build domain special kinks step tolerance blocks alike"
)

OPS = {}


def program(
    name,
    build,
    domain=REAL,
    special=(),
    kinks=(),
    step=1e-3,
    tolerance=1e-7,
    blocks=True,
    needs=None,
    since="1.15",
    alike=None,
):
    """Enters a program, if this TensorFlow has the op that it `needs`."""
    assert name not in OPS, name
    if needs is not None and not hasattr(raw_ops, needs):
        return
    if since == "2" and IS_V1:
        return
    OPS[name] = Program(
        build, domain, special, kinks, step, tolerance, blocks, alike or build
    )


def constant(*shape):
    return tf.constant(np.random.RandomState(3).randn(*shape))


def double(value):
    return tf.constant(value, tf.float64)


def image(x):
    return tf.reshape(x, [-1, 4, 4, 1])


def images(x):
    """[N, 2, 2, 4]"""
    return tf.reshape(x, [-1, 2, 2, 4])


def volume(x):
    return tf.reshape(x, [-1, 2, 4, 2, 1])


def matrix(x):
    return tf.reshape(x, [-1, 4, 4])


def pair(x):
    return x[:, :8], x[:, 8:]


def general(x):
    """Matrices that are not symmetric, and far from singular."""
    return matrix(x) + tf.constant(np.diag([3.0, 4.0, 5.0, 6.0]))


def positive_definite(x):
    a = matrix(x)
    return tf.matmul(a, a, transpose_b=True) + 4 * tf.eye(4, dtype=tf.float64)


def symmetric_matrix(x):
    a = general(x)
    return a + tf.linalg.matrix_transpose(a)


def slope(build):
    """The gradient of `build`, as a part of f."""
    return lambda x: tf.gradients(build(x), x)[0]


def under(v2, build):
    """`build` with that control flow."""

    def built(x):
        enabled = tf.control_flow_v2_enabled()
        (tf.enable_control_flow_v2 if v2 else tf.disable_control_flow_v2)()
        try:
            return build(x)
        finally:
            (tf.enable_control_flow_v2 if enabled else tf.disable_control_flow_v2)()

    return built


def called(build):
    return lambda x: tensorflow.function(build, autograph=False)(x)


FAR = (0.0, 30.0, -30.0)

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
program(
    "div_no_nan",
    lambda x: tf.math.divide_no_nan(x[:, :8], x[:, 8:]),
    POSITIVE,
    [-1.0],
    kinks=[0.0],
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
program("ndtri", lambda x: tf.math.ndtri(x), (0.1, 0.9), [0.5], needs="Ndtri")

# Reductions.
program("sum", lambda x: tf.reduce_sum(matrix(x), [-1]) ** 3)
program("mean", lambda x: tf.reduce_mean(matrix(x), [-2, 2], keepdims=True) ** 3)
program("total", lambda x: tf.reduce_sum(x**3))
program(
    "total_mean_free", lambda x: tf.reduce_sum(tf.reduce_sum(x**3, 0) * constant(16))
)
program("max", lambda x: tf.reduce_max(matrix(x), -1) ** 3, REAL, kinks=[0.5])
program("min", lambda x: tf.reduce_min(x, 1, keepdims=True) ** 3, REAL, kinks=[0.5])
program(
    "euclidean_norm", lambda x: tf.math.reduce_euclidean_norm(matrix(x), -1), since="2"
)
program("prod", lambda x: tf.reduce_prod(matrix(x), -1), REAL, [0.0])
program("prod_of_all", lambda x: tf.reduce_prod(x / 2, [-1], True), ABOVE_ONE)
program(
    "prod_of_two_axes",
    lambda x: tf.reduce_prod(matrix(x)[:, :2], [1, 2]),
    ABOVE_ONE,
    [0.0],
)
program("l2_loss", lambda x: tf.nn.l2_loss(x**2))
program("cumsum", lambda x: tf.cumsum(x, 1) ** 2)
program("cumsum_back", lambda x: tf.cumsum(x, -1, exclusive=True, reverse=True) ** 3)
program("cumprod", lambda x: tf.math.cumprod(x, 1), ABOVE_ONE)


def written_out(x, exclusive, reverse):
    """Cumulative products of matrices along axis 1."""
    rows = tf.unstack(matrix(x), axis=1)[:: -1 if reverse else 1]
    products = [tf.ones_like(rows[0])]
    for row in rows:
        products.append(products[-1] * row)
    products = products[:-1] if exclusive else products[1:]
    return tf.stack(products[:: -1 if reverse else 1], axis=1)


for exclusive in (False, True):
    for reverse in (False, True):
        program(
            "cumprod_exclusive_{}_reverse_{}".format(exclusive, reverse),
            lambda x, e=exclusive, r=reverse: tf.math.cumprod(matrix(x), 1, e, r),
            REAL,
            [0.0],
            alike=lambda x, e=exclusive, r=reverse: written_out(x, e, r),
        )
program(
    "cumulative_logsumexp",
    lambda x: tf.math.cumulative_logsumexp(x, 1),
    needs="CumulativeLogsumexp",
)
program(
    "cumulative_logsumexp_back",
    lambda x: tf.math.cumulative_logsumexp(matrix(x), -1, exclusive=True, reverse=True)[
        ..., :3
    ],
    needs="CumulativeLogsumexp",
)
program("top_k", lambda x: tf.nn.top_k(x, 3)[0] ** 3)
program("top_k_of_matrices", lambda x: tf.nn.top_k(matrix(x), 2)[0] ** 3)
program("reduce_variance", lambda x: tf.math.reduce_variance(matrix(x), 1), REAL, FAR)
program("moments", lambda x: tf.nn.moments(matrix(x), [1])[1], REAL, FAR)
program("logsumexp", lambda x: tf.reduce_logsumexp(x, 1, keepdims=True), REAL, FAR)
program("l2_normalize", lambda x: tf.nn.l2_normalize(x, 1), POSITIVE)

# Shapes.
program("reshape", lambda x: tf.reshape(matrix(x), [-1, 8, 2]) ** 3)
program("transpose", lambda x: tf.transpose(matrix(x), [0, 2, 1]) * matrix(x) ** 2)
program(
    "transpose_around",
    lambda x: (
        tf.transpose(tf.transpose(x) * tf.constant(np.arange(1.0, 17))[:, None]) ** 3
    ),
)
program("expand_dims", lambda x: tf.squeeze(tf.expand_dims(x, -1) ** 3, [2]))
program("squeeze", lambda x: tf.squeeze(x[:, None, :, None], [1, -1]) ** 3)
program("concat_split", lambda x: tf.concat(tf.split(x, 4, 1)[:3], -1) ** 3)
program("split_v", lambda x: tf.split(x, [3, 12, 1], -1)[1] ** 3)
program("stack_unstack", lambda x: tf.stack(tf.unstack(x, axis=-1)[:3], -1) ** 3)
program("pad", lambda x: tf.pad(matrix(x), [[0, 0], [1, 0], [2, 1]])[:, :3] ** 3)
program("mirror_pad", lambda x: tf.pad(x, [[0, 0], [3, 2]], "REFLECT") ** 3)
program("symmetric_pad", lambda x: tf.pad(x, [[0, 0], [3, 2]], "SYMMETRIC") ** 3)
program("pad_v2", lambda x: tf.pad(x, [[0, 0], [1, 2]], constant_values=2.0) ** 3)
program("tile", lambda x: tf.tile(matrix(x), [1, 2, 3]) ** 3)
program(
    "broadcast_to",
    lambda x: (
        raw_ops.BroadcastTo(input=x[:, None], shape=tf.stack([tf.shape(x)[0], 3, 16]))
        ** 3
    ),
)
program("identity_n", lambda x: tf.identity_n(list(pair(x)))[1] ** 3)
program("identity", lambda x: tf.identity(x) ** 3)
program("ensure_shape", lambda x: tf.ensure_shape(x, [None, 16]) ** 3)
program("check_numerics", lambda x: tf.check_numerics(x, "x") ** 3)
program(
    "check_numerics_v2",
    lambda x: raw_ops.CheckNumericsV2(tensor=x, message="") ** 3,
    blocks=False,
    needs="CheckNumericsV2",
)
program("print", lambda x: tf.Print(x, []) ** 3, blocks=False)
program(
    "placeholder_with_default",
    lambda x: tf.placeholder_with_default(x, [None, 16]) ** 3,
    blocks=False,
)

# Selections.
program("reverse", lambda x: x * tf.reverse(x, [-1]))
program("roll", lambda x: x**2 * tf.roll(x, 3, -1))
program("slice", lambda x: tf.slice(matrix(x), [0, 1, 0], [-1, 2, -1]) ** 3)
program("strided_slice", lambda x: matrix(x)[..., tf.newaxis, ::-2, 1] ** 3)
program("strided_slice_of_rows", lambda x: x[:, 3:12:4] ** 3)
program("gather", lambda x: tf.gather(matrix(x), [1, 1, 3], axis=-1) ** 2)
program(
    "gather_of_columns",
    lambda x: tf.transpose(tf.gather(tf.transpose(x), [1, 1, 3])) ** 2,
)
program(
    "gather_of_each",
    lambda x: (
        tf.gather(
            matrix(x),
            tf.zeros([tf.shape(x)[0], 4, 2], tf.int32) + [1, 3],
            batch_dims=2,
            axis=2,
        )
        ** 3
    ),
)
program(
    "gather_nd",
    lambda x: (
        tf.gather_nd(
            matrix(x),
            tf.stack(
                [tf.range(tf.shape(x)[0]), tf.ones([tf.shape(x)[0]], tf.int32)], 1
            ),
        )
        ** 3
    ),
    blocks=False,
)


def gathered(x):
    """Three elements of each observation, one of them twice."""
    n = tf.tile(tf.range(tf.shape(x)[0])[:, None], [1, 3])
    return tf.gather_nd(x, tf.stack([n, tf.zeros_like(n) + [1, 1, 3]], -1))


program("gather_nd_twice", lambda x: tf.reduce_sum(gathered(x) ** 3), blocks=False)
program(
    "scatter_nd",
    lambda x: tf.reduce_sum(
        tf.scatter_nd([[1], [1], [0]], tf.transpose(x)[:3] ** 3, [4, tf.shape(x)[0]])
    ),
)
program(
    "tensor_scatter_add",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_add(
            tf.transpose(x) ** 3, [[1], [1], [0]], tf.transpose(x)[:3] ** 3
        )
    ),
)
program(
    "segment_sum",
    lambda x: (
        tf.transpose(tf.math.segment_sum(tf.transpose(x), [0] * 5 + [1] * 5 + [3] * 6))
        ** 3
    ),
)
program(
    "unsorted_segment_sum",
    lambda x: (
        tf.transpose(
            tf.math.unsorted_segment_sum(tf.transpose(x), [0, 3] * 7 + [-1, 2], 5)
        )
        ** 3
    ),
)

program(
    "segment_mean",
    lambda x: (
        tf.transpose(tf.math.segment_mean(tf.transpose(x), [0] * 5 + [1] * 5 + [2] * 6))
        ** 3
    ),
)
program(
    "tensor_scatter_sub",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_sub(
            tf.transpose(x) ** 3, [[1], [1], [0]], tf.transpose(x)[:3] ** 2
        )
    ),
)
program(
    "tensor_scatter_update",
    lambda x: tf.reduce_sum(
        tf.tensor_scatter_nd_update(
            tf.transpose(x) ** 3, [[1], [0]], tf.transpose(x)[:2] ** 2
        )
        * constant(16, 1)
    ),
    blocks=False,
)


# Complex numbers between x and f.
def as_complex(x):
    return tf.complex(x[:, :8], x[:, 8:])


def power_of(z):
    return tf.square(tf.math.real(z)) * tf.math.imag(z) + tf.math.real(z)


program(
    "complex",
    lambda x: tf.math.real(as_complex(x) * tf.math.conj(as_complex(x)) ** 2),
    blocks=False,
)
program("complex_abs", lambda x: tf.abs(as_complex(x)), POSITIVE, blocks=False)
for number, shape in (("", [-1, 8]), ("2D", [-1, 2, 4]), ("3D", [-1, 2, 2, 2])):
    suffix = number.lower()
    for direction in ("fft", "ifft"):
        program(
            direction + suffix,
            lambda x, f=direction + suffix, s=shape: power_of(
                getattr(tf.signal, f)(tf.reshape(as_complex(x), s))
            ),
            blocks=False,
        )


def single(x):
    return tf.cast(x, tf.float32)


# Of real numbers, in float32: 1.15 has no other.
for name, shape, build in (
    ("rfft", [-1, 16], lambda x: power_of(tf.signal.rfft(x))),
    ("rfft2d", [-1, 4, 4], lambda x: power_of(tf.signal.rfft2d(x))),
    ("irfft", [-1, 2, 8], lambda x: tf.signal.irfft(tf.complex(x, x**2)) ** 3),
    ("irfft2d", [-1, 4, 4], lambda x: tf.signal.irfft2d(tf.complex(x, x**2)) ** 3),
):
    program(
        name,
        lambda x, b=build, s=shape: tf.cast(b(tf.reshape(single(x), s)), tf.float64),
        UNIT,
        step=0.1,
        tolerance=1e-3,
        blocks=False,
    )


# A sparse factor.
def sparse():
    return tf.SparseTensor([[0, 1], [1, 3], [1, 15]], double([1.0, 2.0, 3.0]), [3, 16])


program(
    "sparse_times_dense",
    lambda x: (
        tf.transpose(tf.sparse.sparse_dense_matmul(sparse(), x, adjoint_b=True)) ** 3
    ),
    blocks=False,
)
program(
    "sparse_times_columns",
    lambda x: (
        tf.transpose(tf.sparse.sparse_dense_matmul(sparse(), tf.transpose(x))) ** 3
    ),
    blocks=False,
)

# Matrices.
program("cholesky", lambda x: tf.cholesky(positive_definite(x)), UNIT)
program("matrix_square_root", lambda x: tf.linalg.sqrtm(positive_definite(x)), UNIT)
program("matrix_exponential", lambda x: tf.linalg.expm(matrix(x)), UNIT, blocks=False)
program("qr", lambda x: tf.linalg.qr(general(x))[1], UNIT)
program("qr_q", lambda x: tf.linalg.qr(general(x))[0], UNIT)
program(
    "svd", lambda x: tf.linalg.svd(general(x), compute_uv=False), UNIT, blocks=False
)
program(
    "svd_vectors",
    lambda x: tf.stack([tf.square(t) for t in tf.linalg.svd(general(x))[1:]], 1),
    UNIT,
    blocks=False,
)
program("eigh", lambda x: tf.linalg.eigh(symmetric_matrix(x))[0], UNIT, blocks=False)
program(
    "eigh_vectors",
    lambda x: tf.linalg.eigh(symmetric_matrix(x))[1] ** 2,
    UNIT,
    blocks=False,
)
program("band_part", lambda x: tf.linalg.band_part(matrix(x), 1, 0) ** 3)
program("matrix_inverse", lambda x: tf.linalg.inv(general(x)), UNIT)
program(
    "adjoint_inverse",
    lambda x: tf.linalg.inv(general(x), adjoint=True),
    UNIT,
    alike=lambda x: tf.linalg.inv(tf.linalg.matrix_transpose(general(x))),
)
program("determinant", lambda x: tf.linalg.det(general(x))[:, None], UNIT)
program("slogdet", lambda x: tf.linalg.slogdet(general(x))[1][:, None], UNIT)
program("logdet", lambda x: tf.linalg.logdet(positive_definite(x))[:, None], UNIT)
program("diag", lambda x: raw_ops.MatrixDiag(diagonal=x[:, :4]) * matrix(x) ** 2)
program("diag_part", lambda x: raw_ops.MatrixDiagPart(input=matrix(x)) ** 3)
program(
    "set_diag",
    lambda x: raw_ops.MatrixSetDiag(input=matrix(x), diagonal=x[:, :4] ** 2) ** 3,
)
program(
    "set_constant_diag",
    lambda x: (
        raw_ops.MatrixSetDiag(input=matrix(x), diagonal=tf.zeros_like(x[:, :4])) ** 3
    ),
)
for version, options, last in (("V2", {}, 0), ("V3", {"align": "LEFT_RIGHT"}, 1)):
    # TensorFlow's gradient of bands is wrong in the second version.
    def band(x, last=last):
        return tf.reshape(x[:, : 4 * last + 4], [-1, last + 1, 4] if last else [-1, 4])

    program(
        "diag_" + version,
        lambda x, v=version, o=options, k=last, band=band: (
            getattr(raw_ops, "MatrixDiag" + v)(
                diagonal=band(x),
                k=[0, k],
                num_rows=4,
                num_cols=4,
                padding_value=double(0.5),
                **o,
            )
            ** 3
        ),
        needs="MatrixDiag" + version,
    )
    program(
        "diag_part_" + version,
        lambda x, v=version, o=options, k=last: (
            getattr(raw_ops, "MatrixDiagPart" + v)(
                input=matrix(x), k=[-k, 2 * k], padding_value=double(0.5), **o
            )
            ** 3
        ),
        needs="MatrixDiagPart" + version,
    )
    program(
        "set_diag_" + version,
        lambda x, v=version, o=options, k=last: (
            getattr(raw_ops, "MatrixSetDiag" + v)(
                input=matrix(x), diagonal=x[:, : 4 - k] ** 2, k=k, **o
            )
            ** 3
        ),
        needs="MatrixSetDiag" + version,
    )

# Products and systems.
program("matmul", lambda x: tf.tanh(tf.matmul(x, constant(16, 3))))
program(
    "matmul_of_constants",
    lambda x: tf.transpose(tf.matmul(constant(3, 16), x, transpose_b=True)) ** 3,
)
program(
    "matmul_flipped",
    lambda x: (
        tf.transpose(
            raw_ops.MatMul(a=constant(16, 3), b=x, transpose_a=True, transpose_b=True)
        )
        ** 3
    ),
)
for version in ("", "V2", "V3"):
    options = {"Tout": tf.float64} if version == "V3" else {}
    for flip in (False, True):
        program(
            "batch_matmul{}_{}".format(version, flip),
            lambda x, v=version, f=flip, o=options: getattr(raw_ops, "BatchMatMul" + v)(
                x=matrix(x), y=matrix(x), adj_x=f, adj_y=not f, **o
            ),
            UNIT,
            needs="BatchMatMul" + version,
        )
program(
    "batch_matmul_of_constants", lambda x: tf.matmul(matrix(x), constant(1, 4, 3)) ** 3
)
program(
    "einsum",
    lambda x: raw_ops.Einsum(inputs=[matrix(x), matrix(x)], equation="nij,nkj->nik"),
    UNIT,
    needs="Einsum",
    since="2",
)
program(
    "einsum_ellipsis",
    lambda x: (
        raw_ops.Einsum(inputs=[matrix(x), constant(4, 3)], equation="...ij,jk->...ki")
        ** 3
    ),
    UNIT,
    needs="Einsum",
    since="2",
)
program("einsum_of_tf", lambda x: tf.einsum("nij,njk->nk", matrix(x), matrix(x)), UNIT)
program("solve", lambda x: tf.linalg.solve(general(x), matrix(x)[..., :2]), UNIT)
program(
    "solve_adjoint",
    lambda x: tf.linalg.solve(general(x), matrix(x), adjoint=True),
    UNIT,
)
program(
    "solve_by_constants",
    lambda x: tf.transpose(tf.linalg.solve(constant(16, 16), tf.transpose(x))) ** 3,
)
program(
    "triangular_solve",
    lambda x: tf.linalg.triangular_solve(general(x), matrix(x)[..., :2]),
    UNIT,
)
program(
    "triangular_solve_upper",
    lambda x: tf.linalg.triangular_solve(
        general(x), matrix(x), lower=False, adjoint=True
    ),
    UNIT,
)
program(
    "attention",
    lambda x: tf.matmul(
        tf.nn.softmax(tf.matmul(matrix(x), matrix(x), transpose_b=True)), matrix(x)
    ),
    UNIT,
)

# Softmax and losses.
program("softmax", tf.nn.softmax, REAL, FAR)
program("softmax_of_matrices", lambda x: tf.nn.softmax(matrix(x), axis=1), REAL, FAR)
program("log_softmax", tf.nn.log_softmax, REAL, FAR)
program(
    "cross_entropy",
    lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.ones_like(x) / 16, logits=x
    )[:, None],
    REAL,
    FAR,
)
program(
    "cross_entropy_of_labels",
    lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(
        labels=tf.nn.softmax(x), logits=2 * x
    )[:, None],
)
program(
    "sparse_cross_entropy",
    lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.ones(tf.shape(x)[:1], tf.int32), logits=x
    )[:, None],
    REAL,
    FAR,
)
program(
    "sigmoid_cross_entropy",
    lambda x: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.ones_like(x) / 3, logits=x
    ),
    REAL,
    [20.0, -20.0],
)

# Images.
program(
    "conv2d",
    lambda x: tf.nn.conv2d(image(x), constant(3, 3, 1, 2), [1, 1, 1, 1], "SAME") ** 2,
)
program(
    "conv2d_strided",
    lambda x: tf.nn.conv2d(image(x), constant(2, 2, 1, 2), [1, 2, 1, 1], "VALID") ** 3,
)
program(
    "conv2d_transpose",
    lambda x: (
        tf.nn.conv2d_transpose(
            images(x),
            constant(3, 3, 2, 4),
            tf.stack([tf.shape(x)[0], 4, 4, 2]),
            [1, 2, 2, 1],
            "SAME",
        )
        ** 3
    ),
)
program(
    "conv3d",
    lambda x: (
        tf.nn.conv3d(volume(x), constant(2, 2, 2, 1, 2), [1, 1, 1, 1, 1], "SAME") ** 3
    ),
)
program(
    "depthwise_conv2d",
    lambda x: (
        tf.nn.depthwise_conv2d(image(x), constant(2, 2, 1, 2), [1, 1, 1, 1], "VALID")
        ** 2
    ),
)
program("max_pool", lambda x: tf.nn.max_pool(image(x), 2, 2, "VALID") ** 2, kinks=[0.5])
program("max_pool_overlapping", lambda x: tf.nn.max_pool(image(x), 2, 1, "SAME") ** 2)
program(
    "max_pool3d",
    lambda x: (
        tf.cast(
            tf.nn.max_pool3d(volume(tf.cast(x, tf.float32)), 2, 2, "VALID"), tf.float64
        )
        ** 2
    ),
    step=0.05,
    tolerance=1e-4,
)
program("avg_pool", lambda x: tf.nn.avg_pool(image(x), 3, 1, "SAME") ** 2)
program(
    "avg_pool3d",
    lambda x: (
        tf.cast(
            tf.nn.avg_pool3d(volume(tf.cast(x, tf.float32)), 2, 1, "VALID"), tf.float64
        )
        ** 3
    ),
    step=0.05,
    tolerance=1e-4,
)
program("depth_to_space", lambda x: tf.nn.depth_to_space(images(x), 2) ** 3)
program("space_to_depth", lambda x: tf.nn.space_to_depth(image(x), 2) ** 3)
program(
    "extract_patches",
    lambda x: (
        tf.image.extract_image_patches(
            image(x), [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "SAME"
        )
        ** 3
    ),
)
for version in ("", "V2", "V3"):
    for training in (False, True):

        def normalize(x, v=version, training=training):
            x = tf.cast(x, tf.float32)
            if training:  # Each observation is a channel.
                x = tf.reshape(tf.transpose(x), tf.stack([4, 2, 2, tf.shape(x)[0]]))
                ones = tf.ones([tf.shape(x)[3]])
                mean = variance = tf.zeros([0])
            else:
                x, ones = images(x), tf.constant([1.0, 2.0, 3.0, 4.0])
                mean = variance = ones
            y = getattr(raw_ops, "FusedBatchNorm" + v)(
                x=x,
                scale=ones,
                offset=2 * ones,
                mean=mean,
                variance=variance,
                epsilon=0.1,
                is_training=training,
            )[0]
            y = tf.cast(y, tf.float64) ** 3
            return tf.transpose(tf.reshape(y, [16, -1])) if training else y

        program(
            "batch_norm{}_{}".format(version, training),
            normalize,
            step=0.1,
            tolerance=1e-3,
        )


# Branches, loops, calls and lists.
def cond(inside=lambda x: x):
    return lambda x: tf.cond(
        tf.random_uniform([]) < 2, lambda: tf.exp(inside(x)), lambda: x**2
    )


def loop(inside=lambda x: x):
    return lambda x: tf.while_loop(
        lambda i, _: i < 3, lambda i, a: (i + 1, tf.sin(inside(a)) + x), (0, x)
    )[1]


def printed(x):
    return tf.Print(x, [])


program("cond_v1", under(False, cond()), blocks=False)
program("cond_v2", under(True, cond()), blocks=False)
program("cond_with_effect", under(True, cond(printed)), blocks=False)
program("loop_v2", under(True, loop()), blocks=False)
program("loop_with_effect", under(True, loop(printed)), blocks=False)
program("call", called(lambda x: tf.exp(x)), blocks=False)
program("call_with_effect", called(lambda x: tf.exp(printed(x))), blocks=False)


def listed(x):
    """Of 16 vectors [N]."""
    return raw_ops.TensorListFromTensor(tensor=tf.transpose(x), element_shape=[-1])


def taken(handle, i):
    return raw_ops.TensorListGetItem(
        input_handle=handle, index=i, element_shape=[-1], element_dtype=tf.float64
    )


def stacked(handle):
    return (
        tf.transpose(
            raw_ops.TensorListStack(
                input_handle=handle, element_shape=[-1], element_dtype=tf.float64
            )
        )
        ** 3
    )


program("list", lambda x: stacked(listed(x)), blocks=False)
program(
    "list_get",
    lambda x: tf.transpose(taken(listed(x), 1)[None] * taken(listed(x), 2) ** 2),
    blocks=False,
)
program(
    "list_set",
    lambda x: stacked(
        raw_ops.TensorListSetItem(input_handle=listed(x), index=3, item=x[:, 0] ** 2)
    ),
    blocks=False,
)
program(
    "list_gather",
    lambda x: (
        tf.transpose(
            raw_ops.TensorListGather(
                input_handle=listed(x),
                indices=[1, 0, 3],
                element_shape=[-1],
                element_dtype=tf.float64,
            )
        )
        ** 3
    ),
    blocks=False,
)
program(
    "list_scatter",
    lambda x: stacked(
        raw_ops.TensorListScatter(
            tensor=tf.transpose(x)[:3], indices=[2, 0, 1], element_shape=[-1]
        )
    ),
    blocks=False,
)
program(
    "list_scatter_v2",
    lambda x: stacked(
        raw_ops.TensorListScatterV2(
            tensor=tf.transpose(x)[:3],
            indices=[2, 0, 1],
            element_shape=[-1],
            num_elements=3,
        )
    ),
    blocks=False,
)
