"""Hessians held against differences of the gradient: the numbers, not the graph."""

from typing import Any, Optional

import numpy as np

from batchhess.analysis.audit import precision_in
from batchhess.analysis.moving import not_held, stops_to_hold
from batchhess.calling import public
from batchhess.checks import BLUR, DIFFERENCE, LARGE_STEPS, Claim, judge, unjudged
from batchhess.compat import Variable, control_flow_context, tf
from batchhess.methods.differences import EPSILON, LEVELS, first_step
from batchhess.operators import derivatives


class HessianError(float):
    """A relative error, and where it was found.

    It is NaN where no Hessian is wrong, but a gradient is itself not finite.

    Attributes:
      x: str, the name of the x.
      observation: int, the observation with the largest error, or the first whose
        gradient is not finite.
      undecided: int, how many observations, over all x, no difference could tell of:
        beside a kink of the gradient, or where rounding hides the Hessian.
      undefined: int, in how many the gradient is not finite.
    """

    x: str
    observation: int
    undecided: int
    undefined: int

    def __new__(cls, error, x, observation, undecided=0, undefined=0):
        found = super().__new__(cls, error)
        found.x, found.observation = x, observation
        found.undecided, found.undefined = undecided, undefined
        return found

    def __getnewargs__(self):  # For copies and pickles.
        return (float(self), self.x, self.observation, self.undecided, self.undefined)

    def __repr__(self):
        if self != self:
            told = "the gradient of '{}' is not finite in observation {}"
            told = told.format(self.x, self.observation)
        elif self == 0:
            told = "no error beyond rounding"
        else:
            told = "relative error {:.2g} of '{}', largest in observation {}".format(
                float(self), self.x, self.observation
            )
        if self.undefined and self == self:
            told += "; the gradient is not finite in {} more".format(self.undefined)
        if self.undecided:
            told += "; {} could not be decided".format(self.undecided)
        return "<HessianError: {}>".format(told)

    def __str__(self):
        return repr(self)[len("<HessianError: ") : -1]


@public()
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
      a `HessianError`, a float that is the largest error of H[n] v[n], relative to
      the largest of its terms in observation n. Right Hessians of smooth f are below
      1e-6 in float64 and 1e-2 in float32; its attributes `x` and `observation` name
      where it is largest. Steps are halved until the differences of two agree, for each
      observation by itself; an observation in which they never do has no error, and is
      counted as `undecided`. It is Inf where a Hessian is not finite though differences
      are, and NaN where no Hessian is wrong but a gradient is not finite.

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
                "'{}' is a Variable, which cannot be fed. Pass "
                "a Tensor that the model reads it through.".format(x.name)
            )
    built = derivatives(
        ys, xs, name="hessian_error", batch_axis=batch_axis, method=method, check=check
    )
    random = np.random.RandomState(seed)
    worst, undefined_at, undecided, undefined = (0.0, "", 0), None, 0, 0
    limit = 0
    for x, gradient, hessian in zip(tensors, built.gradients, built.hessians):
        held = _to_feed(gradient, x)
        value, slope, blocks, still = _run(
            session, [x, gradient, hessian, held], feed_dict
        )
        fed = {**feed_dict, **dict(zip(held, still))}

        def gradient_at(moved, x=x, gradient=gradient, fed=fed):
            return session.run(gradient, _with(fed, x, moved))

        direction = random.uniform(0.5, 1, value.shape)
        direction *= random.choice([-1, 1], value.shape)
        precision = precision_in([gradient], x)
        judged, defined = _judge(
            gradient_at, value, slope, blocks, direction, batch_axis, precision
        )
        wrong = judged.condemned & ~judged.agreed
        error = np.where(defined & (wrong | judged.agreed), judged.error, 0)
        undecided += int((defined & ~wrong & ~judged.agreed).sum())
        undefined += int((~defined).sum())
        if error.max(initial=0) > worst[0]:
            worst = error.max(), x.name, int(error.argmax())
        if undefined_at is None and not defined.all():
            undefined_at = float("nan"), x.name, int(defined.argmin())
        limit = max(limit, DIFFERENCE[precision.name])
    if undefined_at and worst[0] <= limit:
        worst = undefined_at
    return HessianError(*worst, undecided=undecided, undefined=undefined)


def _judge(gradient_at, value, slope, blocks, direction, batch_axis, dtype):
    """Halves the step along `direction` until each observation has agreed.

    Args:
      gradient_at: function from a moved x to the gradient there.
      value: array, x.
      slope: array, the gradient there.
      blocks: array [N, *E, *E], the Hessians there.
      direction: array of x's shape, v.
      batch_axis: int.
      dtype: the least precise that the gradient is computed in.

    Returns:
      the `Judgement`, and bools [N]: where the gradient is finite.
    """
    here, values = _rows(slope, batch_axis), _rows(value, batch_axis)
    size = values.shape[1]
    axes = tuple(a for a in range(value.ndim) if a != batch_axis % value.ndim)
    scale = np.maximum(
        np.abs(value.astype(float)).max(axes, initial=1, keepdims=True), 1
    )
    scaled = direction * scale / np.sqrt(max(size, 1))
    v = _rows(scaled, batch_axis)
    terms = blocks.astype(float).reshape(-1, size, size) * v[:, None, :]
    claim = Claim(
        here,
        terms.sum(2),
        _largest(np.abs(terms).sum(2)),
        BLUR * EPSILON[dtype.name] * _largest(values) / np.maximum(_largest(v), 1e-300),
    )
    defined = _largest(here) < np.inf
    judged, step = unjudged(np, claim), first_step(dtype)
    for number in range(LEVELS):
        if (judged.agreed | ~defined).all():
            break
        sides = [
            gradient_at(
                (value.astype(float) + sign * step * scaled).astype(value.dtype)
            )
            for sign in (1, -1)
        ]
        above, below = (_rows(side, batch_axis) for side in sides)
        large = np.full(defined.shape, number < LARGE_STEPS)
        with np.errstate(all="ignore"):  # NaN and Inf are judged too.
            judged = judge(
                np, _largest, dtype.name, claim, judged, above, below, step, large
            )
        step /= 2
    return judged, defined


def _largest(rows):
    """The largest absolute value of each row, Inf where there is a NaN."""
    return np.where(np.isnan(rows), np.inf, np.abs(rows)).max(axis=1, initial=0)


def _to_feed(gradient, x):
    """What the model's author has stopped, which is fed its values at x."""
    held = stops_to_hold([gradient], x)
    for stop in held:
        if control_flow_context(stop.op) is not None:
            raise not_held(stop.op)
    return held


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
            "this Session ran the model before the Hessian was "
            "built, and TensorFlow cannot add to control flow that has run. Build "
            "first, or pass a new Session."
        ) from error
