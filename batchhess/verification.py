"""Hessians held against differences of the gradient: the numbers, not the graph."""

from typing import Any, Optional

import numpy as np

from batchhess.checks import EPSILON
from batchhess.compat import Variable, tf
from batchhess.methods.differences import STENCIL
from batchhess.operators import derivatives


class HessianError(float):
    """A relative error, and where it was found.

    Attributes:
      x: str, the name of the x.
      observation: int, the observation with the largest error.
    """

    def __new__(cls, error, x, observation):
        found = super().__new__(cls, error)
        found.x, found.observation = x, observation
        return found


def compute_hessian_error(
    ys: Any,
    xs: Any,
    feed_dict: dict,
    session: tf.Session,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    seed: Optional[int] = 0,
) -> HessianError:
    """Computes how far the Hessians are from differences of the gradient.

    The sibling of `tf.test.compute_gradient_error`. Every observation is moved at once
    along a random direction v; the change of the gradient is held against H[n] v[n]. So
    a wrong second derivative shows, and so do coupled observations.

    Args:
      ys: as in `hessians`.
      xs: as in `hessians`, of Tensors that `feed_dict` can feed.
      feed_dict: dict, what `Session.run` needs.
      session: a tf.Session on the graph of `ys`, its variables initialized.
      batch_axis: as in `hessians`.
      method: as in `hessians`.
      check: as in `hessians`; "never" measures what plain TensorFlow answers.
      seed: of the random direction; None for another one at each call.

    Returns:
      a float: the largest error of H[n] v[n], relative to the largest of its terms in
      observation n. Right Hessians of smooth f are below 1e-6 in float64 and 1e-2 in
      float32; its attributes `x` and `observation` name where it is largest.

    Raises:
      TypeError: an x is a Variable, which cannot be fed.
      ValueError: as `hessians`.
      RuntimeError: as `hessians`, or `session` has already run control flow v2 that the
        Hessian needs more of.
    """
    tensors = xs if isinstance(xs, (list, tuple)) else [xs]
    for x in tensors:
        if isinstance(x, Variable):
            raise TypeError(
                "compute_hessian_error: '{}' is a Variable, which cannot be fed. Pass "
                "a Tensor that the model reads it through.".format(x.name)
            )
    built = derivatives(
        ys, xs, name="hessian_error", batch_axis=batch_axis, method=method, check=check
    )
    random = np.random.RandomState(seed)
    worst = HessianError(0.0, "", 0)
    for x, gradient, hessian in zip(tensors, built.gradients, built.hessians):
        value, slope, blocks = _run(session, [x, gradient, hessian], feed_dict)
        direction = random.uniform(0.5, 1.5, value.shape)
        direction *= random.choice([-1, 1], value.shape)
        epsilon = EPSILON[x.dtype.base_dtype.name]
        step = epsilon**0.2 / 8

        change = np.zeros(value.shape)
        for offset, weight in STENCIL:
            moved = (value.astype(float) + offset * step * direction).astype(
                value.dtype
            )
            there = session.run(gradient, _with(feed_dict, x, moved))
            change += weight / step * there.astype(float)

        rows, direction, slope = (
            _rows(array, batch_axis) for array in (change, direction, slope)
        )
        size = rows.shape[1]
        blocks = blocks.astype(float).reshape(-1, size, size)
        product = np.einsum("nij,nj->ni", blocks, direction)
        terms = np.einsum("nij,nj->ni", np.abs(blocks), np.abs(direction))
        # What the rounding of gradients of this size makes of a difference.
        noise = 10 * epsilon * np.abs(slope).max(initial=0) / step
        scale = np.maximum(terms, np.abs(rows)).max(axis=1, initial=0)
        excess = np.abs(product - rows).max(axis=1, initial=0) - noise
        errors = np.maximum(excess, 0) / np.where(scale > 0, scale, 1)
        errors[np.isnan(excess)] = np.inf
        if errors.max(initial=0) > worst:
            worst = HessianError(errors.max(), x.name, int(errors.argmax()))
    return worst


def _with(feed_dict, x, value):
    """`feed_dict` with `value` for `x`, which it may know by name."""
    fed = {key: v for key, v in feed_dict.items() if key is not x and key != x.name}
    fed[x] = value
    return fed


def _rows(array, batch_axis):
    """`array`, of x's shape, as float64 [N, K]."""
    array = np.moveaxis(array.astype(float), batch_axis, 0)
    return array.reshape(array.shape[0], int(np.prod(array.shape[1:])))


def _run(session, fetches, feed_dict):
    try:
        return session.run(fetches, feed_dict)
    except tf.errors.InvalidArgumentError as error:
        if "Connecting to invalid output" not in error.message:
            raise
        raise RuntimeError(
            "compute_hessian_error: this Session ran the model before the Hessian was "
            "built, and TensorFlow cannot add to control flow that has run. Build "
            "first, or pass a new Session."
        ) from error
