"""f of a random model by its value alone, for differences of it."""

import numpy as np

from batchhess.compat import tf


def evaluator(model, axes, session):
    """f of [N, K] in float64, its stops standing still, and how large it is.

    f is summed over `axes`, or over all if they are None. The size is no number if
    TensorFlow cannot run f, as in 2.x, whose MKL fuses float64 wrongly.
    """
    y = tf.add_n([tf.reduce_sum(y, axes) for y in model.ys])
    n = model.values[0].shape[model.axis]
    widths = np.cumsum([v.size // n for v in model.values])[:-1]
    session.run([tf.global_variables_initializer(), model.restart])

    def feed_at(rows):
        parts = np.split(rows, widths, axis=1)
        moved = []
        for part, value in zip(parts, model.values):
            shape = np.moveaxis(value, model.axis, 0).shape
            moved.append(np.moveaxis(part.reshape(shape), 0, model.axis))
        feed = model.place(session, moved)
        if model.fed is not None:
            before, after, delta = model.fed
            feed[after] = session.run(before, _joined(feed, still)) + delta
        return feed

    still = {}
    base = np.concatenate(
        [np.moveaxis(v, model.axis, 0).reshape(n, -1) for v in model.values], 1
    )

    def evaluate(rows):
        feed = feed_at(rows)
        return session.run(y, _joined(feed, still))

    try:
        # One after another: a stop may hold another.
        for stop in model.stops:
            still[stop.name] = session.run(stop, _joined(feed_at(base), still))
        return evaluate, np.abs(evaluate(base)).max()
    except tf.errors.OpError:
        return evaluate, np.nan


def _joined(feed, still):
    feed = {getattr(tensor, "name", tensor): value for tensor, value in feed.items()}
    feed.update(still)
    return feed
