"""Every op of the table that is declared sound, against numeric differences.

Many programs are differentiated at once: each reads 16 coordinates of its own of one x,
and has a block of its own in the Hessian.
"""

import collections
import os

import numpy as np
import pytest
from op_programs import OPS
from oracles import run

import batchhess
from batchhess.analysis.proof import prove, walk_from
from batchhess.analysis.region import region
from batchhess.compat import IS_V1, raw_ops, tf
from batchhess.ops.states import UNPROVEN
from batchhess.ops.table import SOUND, all_declared
from batchhess.rewriting import correct

K, GROUP = 16, 12

# Programs that hold ops which are not known to be sound, on one TensorFlow or another:
# each run verifies them, and all that are in one group with them.
VERIFIED = "eig", "svd", "matrix_exponential"

# x is a Variable then: see the test below. And 1.15 makes While of every loop.
NOT_IN_PROGRAMS = ["ReadVariableOp"]

WEIGHTS = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}

# Of the programs `names`: x [N, 16 P], and for each of them y, [N] or a scalar, and the
# y of `alike`; points [N, 16 P], of which the first `smooth` are no kinks.
Group = collections.namedtuple("Group", "names x ys alike points smooth")


def groups(names):
    """Like programs together: one that is built anew makes work for all."""
    kinds = collections.defaultdict(list)
    for name in sorted(names):
        program, verified = OPS[name], name.startswith(VERIFIED)
        kinds[bool(program.kinks), program.blocks, verified].append(name)
    return [
        kind[i : i + GROUP]
        for kind in kinds.values()
        for i in range(0, len(kind), GROUP)
    ]


def points_of(program, values):
    """Rows that hold each of `values` at some places, and at all."""
    random, (low, high) = np.random.RandomState(7), program.domain
    rows = []
    for value in values:
        rows += [random.uniform(low, high, K), np.full(K, value)]
        rows[-2][::3] = value
    return rows


def mixed(terms, x):
    """[N]: weights, and products with one term, fill the blocks.

    An op alone may leave them diagonal, and a sum of softmax zero.
    """
    if terms.shape.ndims == 0:
        return terms
    shape = terms.shape.as_list()[1:]
    if None in shape:
        terms = tf.reshape(terms, tf.stack([tf.shape(x)[0], -1]))
    else:
        terms = tf.reshape(terms, [-1, int(np.prod(shape))])
    weights = 1 + tf.cast(tf.range(tf.shape(terms)[1]), tf.float64) / 10
    return tf.reduce_sum(terms * weights * (1 + 0.1 * terms[:, :1]), 1)


def built(names):
    x = tf.placeholder(tf.float64, (None, K * len(names)))
    ys, alike, points, smooth = [], [], [], []
    for i, name in enumerate(names):
        part, program = x[:, K * i : K * i + K], OPS[name]
        ys.append(mixed(program.build(part), part))
        alike.append(ys[-1])
        if program.alike is not program.build:
            alike[-1] = mixed(program.alike(part), part)
        rows = list(np.random.RandomState(5).uniform(*program.domain, size=(2, K)))
        rows += points_of(program, program.special)
        smooth.append(len(rows))
        points.append(rows + points_of(program, program.kinks))
    count = max(map(len, points))
    points = [rows + rows[:1] * (count - len(rows)) for rows in points]
    return Group(names, x, ys, alike, np.hstack(points), smooth)


def apart(group, array):
    """[N, 16, 16 P] of the moves of 16 coordinates of each: [P, N, 16, 16]."""
    return np.moveaxis(array.reshape(-1, K, len(group.names), K), 2, 0)


def directions(group):
    """x and directions, [16 N, 16 P]: along the k-th coordinate of all programs."""
    along = np.tile(np.eye(K), (len(group.points), len(group.names)))
    return np.repeat(group.points, K, axis=0), along


def differences(group, session, gradient):
    """Fourth-order differences, [P, N, 16, 16] of the gradient, [P, N, 16] of ys."""
    values, along = directions(group)
    steps = np.repeat([OPS[name].step for name in group.names], K)
    second, first = 0, [0] * len(group.names)
    for offset, weight in WEIGHTS.items():
        moved = values + offset * steps * along
        slope, ys = session.run([gradient, group.ys], {group.x: moved})
        second = second + weight / steps * slope
        first = [f + weight / s * y for f, s, y in zip(first, steps[::K], ys)]
    return apart(group, second), first


def wrong(group, found, expected, loose=1.0):
    """The names of the programs of which a row is not as expected."""
    names = {}
    for p, name in enumerate(group.names):
        rows = group.smooth[p]
        f, e = (np.reshape(a[p][:rows], [rows, -1]) for a in (found, expected))
        scale = np.maximum(np.abs(e).max(axis=1), np.abs(e).max() / 100)
        error = (np.abs(f - e).max(axis=1) / scale).max()
        if not error < loose * OPS[name].tolerance or not np.abs(e[0]).max() > 1e-4:
            names[name] = error
    return names


def wrong_at_kinks(group, found, conventional):
    return [
        name
        for p, name in enumerate(group.names)
        for rows in [slice(group.smooth[p], group.smooth[p] + 2 * len(OPS[name].kinks))]
        if not np.allclose(found[p][rows], conventional[p][rows], 1e-9, 1e-9)
    ]


@pytest.mark.parametrize(
    "names",
    groups(OPS),
    ids=lambda names: names[0],
)
def test_second_derivatives_equal_differences(names):
    group = built(names)
    gradient = tf.convert_to_tensor(tf.gradients(group.alike, group.x)[0])
    values, along = directions(group)
    v = tf.placeholder(tf.float64, along.shape)
    (product,) = batchhess.hessian_vector_products(group.ys, group.x, v)
    plain = product
    if OPS[names[0]].kinks:
        (plain,) = tf.gradients(gradient, group.x, v)
    with tf.Session() as session:
        expected, first = differences(group, session, gradient)
        feed = {group.x: values, v: along}
        product, plain = session.run([product, plain], feed)
        slope = session.run(gradient, {group.x: group.points})
    product, plain = apart(group, product), apart(group, plain)
    slope = np.split(slope, len(names), axis=1)
    first = [f.reshape(-1, K) if np.ndim(f) else s for f, s in zip(first, slope)]
    assert not wrong(group, slope, first, loose=10)
    assert not wrong(group, product, expected)
    assert not wrong_at_kinks(group, product, plain)


@pytest.mark.skipif(
    "BATCHHESS_EVERY_OP" not in os.environ, reason="takes minutes: before a release"
)
@pytest.mark.parametrize(
    "names", groups(n for n in OPS if OPS[n].blocks), ids=lambda names: names[0]
)
def test_symmetric_equals_products(names):
    group = built(names)
    (whole,) = batchhess.hessians(group.ys, group.x, method="symmetric")
    values, along = directions(group)
    v = tf.placeholder(tf.float64, along.shape)
    (product,) = batchhess.hessian_vector_products(group.ys, group.x, v)
    with tf.Session() as session:
        whole = session.run(whole, {group.x: group.points})
        product = session.run(product, {group.x: values, v: along})
    whole = whole.reshape(len(group.points), len(names), K, len(names), K)
    whole = [whole[:, p, :, p] for p in range(len(names))]
    group = group._replace(smooth=[len(group.points)] * len(names))
    assert not wrong(group, whole, apart(group, product))


def test_a_variable_that_is_read():
    x = tf.get_variable("x", initializer=np.ones((2, 3)), use_resource=True)
    (result,) = batchhess.hessians(tf.reduce_sum(x**3, 1), x)
    np.testing.assert_allclose(run(result), [6 * np.eye(3)] * 2)


def test_every_sound_op_is_in_a_program_and_proven():
    x, seen = tf.placeholder(tf.float64, (None, K)), set()
    unproven = []
    for name in sorted(OPS):
        y = mixed(OPS[name].build(x), x)
        seen |= {op.type for op in region([y], x)}
        ys = [y]
        if prove(ys, walk_from(x, 0)).kind == UNPROVEN:  # As is a call in 1.15.
            ys = correct(ys, [x], {})
        if prove(ys, walk_from(x, 0)).kind == UNPROVEN:
            unproven.append(name)
    sound = {t for t, d in all_declared().items() if d.follow and d.twice == SOUND}
    sound &= set(dir(raw_ops))
    assert sorted(sound - seen) == NOT_IN_PROGRAMS + ["StatelessWhile"] * IS_V1
    # 1.15 names a gradient at every call, and one with an effect is not built anew.
    assert unproven == ["call_with_effect"] * IS_V1


def test_sparse_softmax_cross_entropy():
    """On 1.15 too, where TensorFlow has no such second derivative."""
    x = tf.placeholder(tf.float64, (None, 4))
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[3, 0, 1], logits=x)
    logits = np.array(
        [[0.3, 0.4, 0.1, 1.2], [0.1, 1.9, 0.1, 0.7], [0.8, 0.2, 1.3, 1.3]]
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.stack([np.diag(row) - np.outer(row, row) for row in p])
    for method in ("symmetric", "columns"):
        result = run(batchhess.hessians(y, x, method=method)[0], {x: logits})
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_labels_out_of_range_are_never_silent():
    x = tf.placeholder(tf.float64, (None, 4))
    labels = tf.placeholder(tf.int32, (None,))
    y = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
    result = batchhess.hessians(y, x)[0]
    try:
        result = run(result, {x: np.ones((2, 4)), labels: [4, 0]})
    except tf.errors.InvalidArgumentError as error:
        assert "label value" in error.message
    else:
        assert np.isnan(result[0]).all() and np.isfinite(result[1]).all()


def band_of_second_version(x):
    return raw_ops.MatrixDiagV2(
        diagonal=tf.reshape(x, [-1, 4, 4])[:, :2],
        k=[0, 1],
        num_rows=4,
        num_cols=4,
        padding_value=tf.constant(0.5, tf.float64),
    )


def element_of_list_twice(x):
    return raw_ops.TensorListGather(
        input_handle=raw_ops.TensorListFromTensor(
            tensor=tf.transpose(x), element_shape=[-1]
        ),
        indices=[1, 1, 3],
        element_shape=[-1],
        element_dtype=tf.float64,
    )


WRONG = {
    "element of a list twice": element_of_list_twice,
    "order of polygamma": lambda x: tf.math.polygamma(x, x + 1),
    "first argument of zeta": lambda x: tf.math.zeta(x + 2, x + 1),
    "shape of betainc": lambda x: tf.math.betainc(x + 1, x + 2, x / 9),
    "overlapping windows in 3-D": lambda x: tf.cast(
        tf.nn.max_pool3d(
            tf.reshape(tf.cast(x, tf.float32), [-1, 2, 4, 2, 1]), 2, 1, "VALID"
        ),
        tf.float64,
    ),
}
if not IS_V1:  # There it cannot be differentiated once.
    WRONG["band of the second version"] = band_of_second_version


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_tensorflow_differentiates_wrongly_is_refused(name):
    x = tf.placeholder(tf.float64, (None, K))
    with pytest.raises(batchhess.SecondDerivativeError, match="wrong in TensorFlow"):
        batchhess.hessians(tf.reduce_sum(WRONG[name](x) ** 2), x)


def test_equal_eigenvalues_are_never_silent():
    """TensorFlow 2.x takes 1 / 0 for 0 there, and loses the terms between the two."""
    x = tf.placeholder(tf.float64, (None, 2, 2))
    y = tf.reduce_sum(tf.linalg.eigvalsh(x + tf.linalg.matrix_transpose(x)) ** 2, 1)
    (result,) = batchhess.hessians(y, x)
    try:
        result = run(result, {x: np.eye(2)[None]})
    except tf.errors.InvalidArgumentError as error:
        assert "has two equal eigenvalues" in error.message
    else:
        assert not np.isfinite(result).all()
