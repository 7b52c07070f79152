"""f of a random model by its value alone, for differences of it."""

import numpy as np
from oracles import unoptimized

from batchhess.compat import tf


def evaluator(model, axes, session):
    """f of [N, K] in float64, its stops standing still, and how large it is.

    f is summed over `axes`, or over all if they are None. The size is no number if
    TensorFlow cannot run f, as in 2.x, whose MKL fuses float64 wrongly.
    """
    y = tf.add_n([tf.reduce_sum(y, axes) for y in model.ys])
    feed_at, base = feeder(model, session)

    def evaluate(rows):
        return session.run(y, feed_at(rows))

    try:
        feed_at.stand_still()
        return evaluate, np.abs(evaluate(base)).max()
    except tf.errors.OpError:
        return evaluate, np.nan


def feeder(model, session):
    """A function from rows [N, K] to what to feed for f there, and the model's rows."""
    session.run([tf.global_variables_initializer(), model.restart])
    n, still = model.values[0].shape[model.axis], {}
    base = np.concatenate(
        [np.moveaxis(v, model.axis, 0).reshape(n, -1) for v in model.values], 1
    )

    def feed_at(rows):
        feed = _joined(model.place(session, _as_xs(model, rows)), still)
        feed.update(read_fed(model, session, feed))
        return feed

    def stand_still():
        # One after another: a stop may hold another.
        for stop in model.stops:
            still[stop.name] = session.run(stop, feed_at(base))

    feed_at.stand_still = stand_still
    return feed_at, base


def _as_xs(model, rows):
    """Rows [N, K] as a list of arrays in the shapes of xs."""
    n = len(rows)
    widths = np.cumsum([v.size // n for v in model.values])[:-1]
    moved = []
    for part, value in zip(np.split(rows, widths, axis=1), model.values):
        shape = np.moveaxis(value, model.axis, 0).shape
        moved.append(np.moveaxis(part.reshape(shape), 0, model.axis))
    return moved


def read_fed(model, session, feed):
    """What to feed for inner Tensors, each read as those before it are fed."""
    found = {}
    for value, fed in model.fed:
        found[fed.name] = session.run(value, _joined(feed, found))
    return found


def fed_curvatures(model, axes, directions):
    """v^T H v, [P, N, D], as chained tf.gradients say of f with its inner tensors fed.

    H is the block of each observation, whether or not f is coupled.
    """
    # Not in a Session that has run f: for its gradients, TensorFlow changes the calls.
    outputs = 1 if axes is None else model.ys[0].shape.as_list()[1]
    y = tf.reshape(tf.add_n([tf.reduce_sum(y, axes) for y in model.ys]), [-1])
    vs = [tf.placeholder(x.dtype.base_dtype, x.shape) for x in model.xs]
    along = []
    for p in range(outputs):
        slope = _inner(_gradients(y[p], model.xs), vs)
        along.append(_inner(_gradients(slope, model.xs), vs))
    with unoptimized() as session:
        feed, base = _feed_here(model, session)
        found = np.zeros([outputs, len(base), len(directions)])
        for i, d in np.ndindex(*found.shape[1:]):
            rows = np.zeros_like(base)
            rows[i] = directions[d]
            feed.update(_joined(dict(zip(vs, _as_xs(model, rows))), {}))
            found[:, i, d] = session.run(along, feed)
    return found


def fed_slopes(model):
    """[N, M, K], as tf.gradients says of y with its inner tensors fed."""
    (y,), (x,) = model.ys, model.xs
    n, m = model.values[0].shape[model.axis], y.shape.as_list()[1]
    slopes = [[_gradients(y[i, j], [x])[0] for j in range(m)] for i in range(n)]
    with unoptimized() as session:
        feed, _ = _feed_here(model, session)
        found = np.array(session.run(slopes, feed))
    found = np.moveaxis(found, model.axis + 2, 2).reshape(n, m, n, -1)
    return np.stack([found[i, :, i] for i in range(n)])


def _feed_here(model, session):
    """What to feed for f where xs of the model are, and those as rows."""
    feed_at, base = feeder(model, session)
    feed_at.stand_still()
    return feed_at(base), base


def _gradients(y, xs):
    found = tf.gradients(y, xs)
    return [
        tf.zeros_like(x) if g is None else tf.convert_to_tensor(g)
        for x, g in zip(xs, found)
    ]


def _inner(us, vs):
    return tf.add_n([tf.reduce_sum(u * v) for u, v in zip(us, vs)])


def _joined(feed, still):
    feed = {getattr(tensor, "name", tensor): value for tensor, value in feed.items()}
    feed.update(still)
    return feed
