"""Whether what an operator answers of a random model is right, by differences of f."""

import collections

import numpy as np
from random_values import evaluator, fed_curvatures, fed_slopes
from value_differences import random_directions, value_curvatures, value_slopes

# verdict: "right"; "refused when built"; "refused when run"; "false alarm", of a
# coupling, of a copy or by check="always" where there is no such thing; "imprecise",
# wrong in float32 and right in float64; "not finite"; "no oracle", since f varies too
# fast; "as TensorFlow", of an inner tensor that is fed, where f is no such function;
# "no model", since TensorFlow cannot run f; or one of BAD.
Verdict = collections.namedtuple("Verdict", "verdict words detail")
BAD = ("WRONG", "CRASH", "HANG")
# tf.losses computes them in float32, whatever it is given.
IN_FLOAT32 = {"mean_squared_error"}
TOLERANCE = {"float64": 1e-5, "float32": 5e-3, "float16": 5e-2}


def direction_of(values, axis):
    """One direction for all observations, as vs in the shapes of xs, and as [K]."""
    parts = [np.moveaxis(v, axis if v.ndim > 1 else 0, 0)[0] for v in values]
    flat = [0.5 + 0.3 * np.arange(part.size).reshape(part.shape) for part in parts]
    vs = [
        np.moveaxis(
            np.broadcast_to(f, (v.shape[axis if v.ndim > 1 else 0],) + f.shape),
            0,
            axis if v.ndim > 1 else 0,
        )
        for f, v in zip(flat, values)
    ]
    return vs, np.concatenate([f.ravel() for f in flat])


def compare(operator, model, options, words, answers, session, dtype="float64"):
    """The `Verdict` on what an operator answered.

    Args:
      operator: its name.
      model: `Model` in float64.
      options: dict of what was passed to the operator.
      words: list of what was drawn.
      answers: array, as of float64 but in the precision of `dtype`.
      session: Session of the graph of `model`.
      dtype: in which the model was differentiated.
    """
    if IN_FLOAT32.intersection(words) and dtype == "float64":
        dtype = "float32"
    judged = _compare_slopes if operator == "jacobians" else _compare_curvatures
    given = operator, options, model, answers, session, dtype
    # A pole or a kink within a step misleads the larger one.
    steps, first = [1, 0.1] + [None] * bool(model.fed), None
    for step in steps:
        try:
            verdict, detail = judged(*given, step)
        except Exception as error:
            if step is not None:
                raise
            verdict, detail = "WRONG", "{}; {}".format(first[1], error)[:200]
        first = first or (verdict, detail)
        if verdict != "WRONG":
            if step is None and verdict == "right":
                verdict = "as TensorFlow"
            return Verdict(verdict, words, detail)
    return Verdict("WRONG", words, detail if step is None else first[1])


def _compare_curvatures(operator, options, model, answers, session, dtype, step):
    n = model.values[0].shape[model.axis]
    v = direction_of(model.values, model.axis)[1]
    k, per_output = len(v), options["per_output"]
    e = np.cos(np.arange(k) + 0.5)
    directions = np.eye(k)
    if operator == "hessian_vector_products":
        directions = np.stack([e + v, e - v]) / 2
    elif operator not in ("hessian_diagonals", "laplacians"):
        directions = None
    along, errors, directions, size = _curvatures(
        model, per_output, session, directions, step
    )
    if not np.isfinite(size):
        return "no model", "f is not finite, or does not run"
    lead, skew = [n] + ([len(along)] if per_output else []), 0
    if operator == "laplacians":
        along, errors = along.sum(2, keepdims=True), errors.sum(2, keepdims=True)
        found = np.reshape(answers, lead + [1])
    elif operator == "hessian_diagonals":
        found = np.reshape(answers, lead + [k])
    elif operator == "hessian_vector_products":
        # The product is bilinear: (e + v)^2 - (e - v)^2 = 4 e v.
        along = along[:, :, :1] - along[:, :, 1:]
        errors = errors.sum(2, keepdims=True)
        if not per_output:
            answers = np.moveaxis(answers, model.axis, 0)
        found = np.reshape(answers, lead + [k]).dot(e)[..., None]
    else:
        h = np.reshape(answers, lead + [k, k])
        # What chained derivatives say of an f that is fed need not be symmetric.
        if step is not None and h.size:
            skew = np.abs(h - np.swapaxes(h, -1, -2)).max()
        found = np.einsum("di,...ij,dj->...d", directions, h, directions)
    found = np.moveaxis(found, 1, 0) if per_output else found[None]
    tolerance = TOLERANCE[dtype]
    if options.get("method") == "differences":
        tolerance = max(tolerance, 2e-2 if dtype == "float32" else 1e-5)
    return _verdict(found, along, errors, tolerance, size, dtype, skew)


def _curvatures(model, per_output, session, directions, step):
    """v^T H v, its errors, the directions v, and the size of f.

    By differences, or as chained tf.gradients say it if `step` is None.
    """
    axes = [0] if per_output else None
    evaluate, size = evaluator(model, axes, session)
    if not np.isfinite(size):
        return None, None, None, size
    n = model.values[0].shape[model.axis]
    rows = np.concatenate(
        [np.moveaxis(x, model.axis, 0).reshape(n, -1) for x in model.values], 1
    )
    if step is None:
        if directions is None:
            directions = random_directions(rows.shape[1])
        along = fed_curvatures(model, axes, directions)
        return along, np.zeros_like(along), directions, size
    truth = value_curvatures(evaluate, rows, step=0.04 * step, directions=directions)
    return truth.along, truth.errors, truth.directions, size


def _compare_slopes(operator, options, model, answers, session, dtype, step):
    """The same of Jacobians, against differences of y, one observation at a time."""
    n = model.values[0].shape[model.axis]
    rows = np.moveaxis(model.values[0], model.axis, 0).reshape(n, -1)
    evaluate, size = evaluator(model, [], session)
    if not np.isfinite(size):
        return "no model", "f is not finite, or does not run"
    found = np.reshape(answers, [n, -1, rows.shape[1]])
    if step is None:
        slopes = fed_slopes(model)
        errors = np.zeros_like(slopes)
    else:
        slopes, errors = value_slopes(evaluate, rows, 1e-3 * step)
    return _verdict(found, slopes, errors, TOLERANCE[dtype], size, dtype)


def _verdict(found, truth, errors, tolerance, size, dtype, skew=0):
    """A verdict and its detail."""
    scale = np.nanmax(np.abs(truth)) + 1e-3
    scale += size if dtype != "float64" else 0
    trusted = errors < 0.1 * tolerance * scale
    if not np.isfinite(found[trusted]).all():
        return "not finite", str(found)[:100]
    off = np.abs(found - truth)[trusted]
    if off.size and off.max() > tolerance * scale:
        return "WRONG", "off by {:.3g} of {:.3g}".format(off.max(), scale)
    if trusted.all() and skew > tolerance * scale:
        return "WRONG", "not symmetric, by {:.3g}".format(skew)
    return ("right" if trusted.all() else "no oracle"), ""
