"""Second derivatives by ways that share no code with the library."""

import numpy as np

from batchhess.compat import tf


def run(fetches, feed=None):
    """Runs `fetches` in a new Session, after initializing variables."""
    with tf.Session() as session:
        initialize(session)
        return session.run(fetches, feed)


def initialize(session):
    if tf.global_variables():
        session.run(tf.global_variables_initializer())


def unoptimized():
    """A Session for an oracle: to optimize its graph is most of a short run's time.

    The answers that are held against it are run as users run them.
    """
    config = tf.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(config=config)


def sliced_hessians(ys, x, feed):
    """The diagonal blocks of tf.hessians, for x of shape [N, *E]: [N, *E, *E]."""
    rank = x.shape.ndims
    whole = tf.hessians(ys, x)
    with unoptimized() as session:
        initialize(session)
        (full,) = session.run(whole, feed)  # [N, *E, N, *E]
    rows = [np.take(full[n], n, axis=rank - 1) for n in range(full.shape[0])]
    return np.stack(rows) if rows else np.zeros(x.shape.as_list()[1:] * 2)


def assert_symmetric(blocks):
    """Asserts that blocks [N, K, K] are symmetric, to the last bits of the largest."""
    bits = 8 * np.finfo(blocks.dtype).eps * np.abs(blocks).max()
    np.testing.assert_allclose(blocks, blocks.swapaxes(1, 2), rtol=0, atol=bits)


def difference_blocks(ys, x, value, feed=None, step=1e-3):
    """Fourth-order central differences of the gradient, one observation at a time.

    Args:
      ys: Tensor or list of Tensors; they are summed.
      x: Tensor that can be fed, of shape [N, *E].
      value: float64 array to feed for it.
      feed: dict of what else to feed.
      step: the distance of the differences.

    Returns:
      float64 array [N, *E, *E], the exact diagonal blocks whether or not coupled.
    """
    (gradient,) = tf.gradients(ys, x)
    gradient = tf.convert_to_tensor(gradient)
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    event = value.shape[1:]
    blocks = np.zeros(value.shape + event)
    with unoptimized() as session:
        initialize(session)
        for n in range(value.shape[0]):
            for index in np.ndindex(*event):
                for offset, weight in weights.items():
                    moved = value.copy()
                    moved[(n,) + index] += offset * step
                    moved = session.run(gradient, dict(feed or {}, **{x.name: moved}))
                    blocks[(n, Ellipsis) + index] += weight / step * moved[n]
    return blocks


def count_ops(graph):
    """All ops of `graph`, those inside its functions included."""
    definition = graph.as_graph_def()
    functions = definition.library.function
    return len(definition.node) + sum(len(f.node_def) for f in functions)


def count_runs(fetches, feed, kind):
    """How many ops of type `kind` a run executes, each pass of a loop counted."""
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    metadata = tf.RunMetadata()
    with tf.Session() as session:
        session.run(fetches, feed, options=options, run_metadata=metadata)
    devices = metadata.step_stats.dev_stats
    labels = [node.timeline_label for device in devices for node in device.node_stats]
    return sum(" = {}(".format(kind) in label for label in labels)


def difference_jacobians(y, x, value, feed=None, axis=0, step=1e-3):
    """Fourth-order central differences of y, one observation at a time.

    Args:
      y: Tensor [N, *F].
      x: Tensor that can be fed.
      value: float64 array to feed for it, with the observations along `axis`.
      feed: dict of what else to feed.
      axis: int.
      step: the distance of the differences.

    Returns:
      float64 array [N, *F, *E], the exact diagonal blocks whether or not coupled.
    """
    weights = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
    rows = np.moveaxis(value, axis, 0)
    event = rows.shape[1:]
    with unoptimized() as session:
        initialize(session)

        def at(rows):
            moved = np.moveaxis(rows, 0, axis)
            return session.run(y, dict(feed or {}, **{x.name: moved}))

        found = np.zeros(at(rows).shape + event)
        for n in range(len(rows)):
            for index in np.ndindex(*event):
                for offset, weight in weights.items():
                    moved = rows.copy()
                    moved[(n,) + index] += offset * step
                    found[(n, Ellipsis) + index] += weight / step * at(moved)[n]
    return found
