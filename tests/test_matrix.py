"""Every operator by every method, along every axis, for every number of observations.

A sample of all combinations; BATCHHESS_COMBINATIONS=2000 draws as many. The model is
sin(x A + b), whose derivatives are known in closed form.
"""

import collections
import os

import numpy as np
import pytest
from oracles import run

import batchhess
from batchhess import planning, tangent_planning
from batchhess.compat import tf
from batchhess.methods import JACOBIAN_METHODS, METHODS

COUNT = int(os.environ.get("BATCHHESS_COMBINATIONS", 48))
BLOCK = 4  # Observations of a block, here.
SIZES = [0, 1, BLOCK, BLOCK + 1, 7]
EVENTS = [(), (5,), (2, 3), (1,), (3,), (2, 1, 3)]

# values: list of arrays; flat: the same as [N, K_i]. a: list of [K_i, M]. z: [N, M].
Model = collections.namedtuple("Model", "xs ys outputs values flat a z feed axis")


def draw_model(random, per_output):
    """xs with N observations along one axis, and sin(x A + b)."""
    n, shape = random.choice(SIZES), [(), (3,), (2, 2)][random.randint(3)]
    events = [EVENTS[i] for i in random.randint(len(EVENTS), size=random.randint(1, 3))]
    axes = [a for a in (0, 1, -1) if a <= min(map(len, events))]
    axis, is_static = axes[random.randint(len(axes))], random.rand() < 0.4
    m, xs, values, a, rows = int(np.prod(shape)), [], [], [], []
    z = random.randn(m)
    for event in events:
        rows.append(random.uniform(-1, 1, (n, int(np.prod(event)))))
        value = np.moveaxis(rows[-1].reshape((n,) + event), 0, axis)
        whole = list(value.shape)
        if not is_static:
            whole[axis] = None
        x = tf.placeholder(tf.float64, whole)
        order = list(range(value.ndim))
        order.insert(0, order.pop(axis))
        flat = tf.reshape(
            tf.transpose(x, order), [tf.shape(x)[axis], rows[-1].shape[1]]
        )
        a.append(random.randn(rows[-1].shape[1], m))
        z = z + tf.matmul(flat, tf.constant(a[-1]))
        xs.append(x)
        values.append(value)
    y = tf.reshape(
        tf.sin(z), tf.concat([[tf.shape(z)[0]], np.array(shape, np.int32)], 0)
    )
    y.set_shape((None,) + shape)
    feed = dict(zip(xs, values))
    ys = y
    if not per_output:
        parts = [tf.reduce_sum(y), tf.reduce_sum(tf.reshape(y, [-1, m]), 1)]
        ys = [y, parts[0], parts[1], [parts[0] / 2, y / 2]][random.randint(4)]
    return Model(xs, ys, y, values, rows, a, run(z, feed), feed, axis)


def in_shape_of_xs(model, rows):
    """[N, K_i] each in the shape of its x."""
    found = []
    for one, value in zip(rows, model.values):
        event = np.moveaxis(value, model.axis, 0).shape[1:]
        found.append(np.moveaxis(one.reshape((len(one),) + event), 0, model.axis))
    return found


def events(model):
    return [np.moveaxis(v, model.axis, 0).shape[1:] for v in model.values]


def curvature(model, i, j, per_output):
    """The second derivatives by x_i and x_j: [N, M, K_i, K_j], or summed over M."""
    found = np.einsum("nm,im,jm->nmij", -np.sin(model.z), model.a[i], model.a[j])
    return found if per_output else found.sum(1)


def slopes(model, i):
    return np.einsum("nm,im->nmi", np.cos(model.z), model.a[i])


def draw_vectors(random, model):
    """Vectors in the shapes that are passed, and as [N, V, K_i]; V or None."""
    n, count = len(model.z), [None, 1, 3, 6][random.randint(4)]
    flat = [random.randn(n, count or 1, rows.shape[1]) for rows in model.flat]
    if count is None:
        return in_shape_of_xs(model, [v[:, 0] for v in flat]), flat, None
    shaped = [v.reshape((n, count) + e) for v, e in zip(flat, events(model))]
    return shaped, flat, count


def reshaped(model, found, expected):
    """Pairs of an answer and what it should be, of as many elements."""
    assert len(found) == len(expected)
    return [(f, np.reshape(e, f.shape)) for f, e in zip(found, expected)]


def hessian_like(name, random, model, options):
    per_output = options["per_output"]
    built = getattr(batchhess, name)(model.ys, model.xs, **options)
    built = built.hessians if name == "derivatives" else built
    chosen, outer = options.get("coordinates"), model.outputs.shape.as_list()[1:]
    found, pairs = run(built, model.feed), []
    for i, (one, event) in enumerate(zip(found, events(model))):
        wish = curvature(model, i, i, per_output)
        columns = list(range(wish.shape[-1])) if chosen is None else chosen
        last = list(event) if chosen is None else [len(chosen)]
        if name in ("hessians", "derivatives"):
            wish, shape = wish[..., columns], list(event) + last
        else:
            wish, shape = np.einsum("...kk->...k", wish)[..., columns], last
        if name == "laplacians":
            wish, shape = wish.sum(-1), []
        whole = [len(model.z)] + (outer if per_output else []) + shape
        pairs.append((one, wish.reshape(whole)))
    return pairs


def products(random, model, options):
    vs, flat, count = draw_vectors(random, model)
    per_output = options["per_output"]
    found = run(
        batchhess.hessian_vector_products(model.ys, model.xs, vs, **options), model.feed
    )
    outer = model.outputs.shape.as_list()[1:] if per_output else []
    pairs = []
    for i, (one, event) in enumerate(zip(found, events(model))):
        wish = sum(
            np.einsum("n...ij,nvj->n...vi", curvature(model, i, j, per_output), v)
            for j, v in enumerate(flat)
        )
        whole = [len(wish)] + outer + ([] if count is None else [count]) + list(event)
        wish = wish.reshape(whole)
        if count is None and not per_output:
            wish = np.moveaxis(wish, 0, model.axis)
        pairs.append((one, wish))
    return pairs


def blocks(random, model, options):
    per_output = options["per_output"]
    built = batchhess.hessian_blocks(model.ys, model.xs, **options)
    found, shapes, pairs = run(built, model.feed), events(model), []
    outer = tuple(model.outputs.shape.as_list()[1:]) if per_output else ()
    for i, row in enumerate(found):
        for j, one in enumerate(row):
            wish = curvature(model, i, j, per_output)
            shape = (len(model.z),) + outer + shapes[i] + shapes[j]
            pairs.append((one, wish.reshape(shape)))
    return pairs


def jacobians(random, model, options):
    built = batchhess.jacobians(model.outputs, model.xs, **options)
    chosen, pairs = options.get("coordinates"), []
    for i, (one, event) in enumerate(zip(run(built, model.feed), events(model))):
        wish = slopes(model, i)
        wish = wish if chosen is None else wish[..., chosen]
        last = list(event) if chosen is None else [len(chosen)]
        outer = model.outputs.shape.as_list()[1:]
        pairs.append((one, wish.reshape([len(wish)] + outer + last)))
    return pairs


def gauss_newton(random, model, options):
    vs, flat, count = draw_vectors(random, model)
    built = batchhess.gauss_newton_products(
        model.outputs, tf.exp(model.outputs), model.xs, vs, **options
    )
    pushed = sum(
        np.einsum("nmi,nvi->nvm", slopes(model, i), v) for i, v in enumerate(flat)
    )
    curved, pairs = np.exp(np.sin(model.z))[:, None] * pushed, []
    for i, (one, event) in enumerate(zip(run(built, model.feed), events(model))):
        wish = np.einsum("nmi,nvm->nvi", slopes(model, i), curved)
        whole = [len(wish)] + ([] if count is None else [count]) + list(event)
        wish = wish.reshape(whole)
        wish = np.moveaxis(wish, 0, model.axis) if count is None else wish
        pairs.append((one, wish))
    return pairs


OPERATORS = [
    "hessians",
    "jacobians",
    "hessian_diagonals",
    "gauss_newton",
    "laplacians",
    "products",
    "derivatives",
    "blocks",
]
OTHERS = {
    "products": products,
    "blocks": blocks,
    "jacobians": jacobians,
    "gauss_newton": gauss_newton,
}


def draw_options(operator, random):
    has_method = operator != "gauss_newton"
    options = {"check": ["auto", "auto", "always", "never"][random.randint(4)]}
    if operator not in ("jacobians", "gauss_newton"):
        options["per_output"] = bool(random.rand() < 0.4)
    if has_method:
        methods = JACOBIAN_METHODS if operator == "jacobians" else METHODS
        methods = ["columns", "symmetric"] if operator == "products" else methods
        options["method"] = random.choice(["auto"] + sorted(methods))
    if operator not in ("products", "gauss_newton", "blocks") and random.rand() < 0.3:
        options["coordinates"] = [0]
    return options


@pytest.mark.parametrize("number", range(COUNT))
def test_a_combination_equals_the_closed_form(number, monkeypatch):
    random = np.random.RandomState(number)
    operator = OPERATORS[number % len(OPERATORS)]
    for module in (planning, tangent_planning):
        monkeypatch.setattr(module, "block_size", lambda *_: BLOCK)
    options = draw_options(operator, random)
    model = draw_model(random, options.get("per_output", False))
    options["batch_axis"] = model.axis
    if operator in OTHERS:
        pairs = OTHERS[operator](random, model, options)
    else:
        pairs = hessian_like(operator, random, model, options)
    tolerance = 1e-6 if options.get("method") == "differences" else 1e-10
    for found, expected in pairs:
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
