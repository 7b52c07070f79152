"""Second derivatives by differences of f's own value, and how far to trust them."""

import collections

import numpy as np

# directions: [D, K]. along: [P, N, D], v^T H v of each output, observation, direction.
# errors: of the same shape; large, or NaN, where the differences cannot be trusted.
Curvatures = collections.namedtuple("Curvatures", "directions along errors")


def value_curvatures(evaluate, value, axis=0, step=0.04, directions=None):
    """Second derivatives along random directions, one observation at a time.

    Two symmetric matrices that agree along a few random directions are the same.

    Args:
      evaluate: function from an array like `value` to an array of P outputs.
      value: float64 array, with the observations along `axis`.
      axis: int.
      step: the largest distance along a direction; two more halve it.
      directions: [D, K]; two random ones if None.

    Returns:
      `Curvatures`: central differences, and their limit by Richardson.
    """
    rows = np.moveaxis(np.asarray(value, np.float64), axis, 0)
    n, size = len(rows), int(np.prod(rows.shape[1:]))
    random = np.random.RandomState(3)
    if directions is None:
        directions = random_directions(size, random)
    pairs = random.randn(5, 2, size) / 2
    count = len(directions)
    base = np.asarray(evaluate(value), np.float64).ravel()
    along = np.zeros((len(base), n, count))
    errors, jumps = np.zeros_like(along), np.zeros_like(along)
    for i in range(n):

        def second(direction, i=i):
            def at(distance):
                moved = rows.reshape(n, size).copy()
                moved[i] += distance * direction
                moved = np.moveaxis(moved.reshape(rows.shape), 0, axis)
                return np.asarray(evaluate(moved), np.float64).ravel()

            return _second(at, base, step)

        for d, direction in enumerate(directions):
            along[:, i, d], errors[:, i, d], jumps[:, i, d] = second(direction)
        for pair in pairs:
            jumps[:, i] += _not_quadratic(second, *pair)[:, None]
    # On a kink, the jumps of two coordinates may cancel along one direction.
    errors += jumps.max(2, keepdims=True, initial=0)
    return Curvatures(directions, along, errors)


def random_directions(size, random=None):
    """Two directions [2, size] that tell symmetric matrices apart."""
    random = random or np.random.RandomState(3)
    directions = random.uniform(0.4, 1.0, (2, size))
    return directions * np.where(np.arange(2 * size) % 3, 1, -1).reshape(2, size)


def curvatures_of(hessians, directions):
    """v^T H v, [P, N, D], of Hessians [P, N, *E, *E] and directions [D, K]."""
    size = directions.shape[1]
    flat = np.reshape(hessians, hessians.shape[:2] + (size, size))
    return np.einsum("di,pnij,dj->pnd", directions, flat, directions)


def _second(at, base, step):
    distances = [step, step / 2, step / 4]
    values = {h: at(h) for h in distances + [-h for h in distances]}
    # Even in h: each step of Richardson takes away one more power of h^2.
    second = [(values[h] - 2 * base + values[-h]) / h**2 for h in distances]
    first = [(4 * b - a) / 3 for a, b in zip(second, second[1:])]
    limit = (16 * first[1] - first[0]) / 15
    gaps = []
    for near, far in ((1, 0), (2, 1)):
        # The differences of the two sides part by h f''' where f is smooth, and stay
        # apart where its second derivative jumps, as that of a maximum squared does.
        h = distances[near]
        sides = [values[s * distances[far]] - 2 * values[s * h] for s in (1, -1)]
        gaps.append((sides[0] - sides[1]) / h**2)
    jump = np.abs(2 * gaps[1] - gaps[0])
    jump = np.where(jump > 0.02 * np.abs(limit) + 1e-4, jump, 0.0)
    return limit, np.abs(limit - first[1]), jump


def _not_quadratic(second, u, v):
    """How far second derivatives are from v^T H v; zero if that is not far.

    A maximum of two squares is smooth along each line through zero, and has no Hessian
    there.
    """
    both, apart, first, other = (second(d)[0] for d in (u + v, u - v, u, v))
    gap = np.abs(both + apart - 2 * first - 2 * other)
    sizes = np.abs(both) + np.abs(apart) + 2 * np.abs(first) + 2 * np.abs(other)
    return np.where(gap > 0.02 * sizes + 1e-4, gap, 0.0)


def value_slopes(f, rows, step=1e-3):
    """The derivatives of f[n] by row n, one coordinate of one observation at a time.

    Args:
      f: function from an array [N, K] to an array [N, M].
      rows: float64 array [N, K].
      step: the larger of two distances.

    Returns:
      float64 arrays [N, M, K]: the derivatives, and their estimated errors.
    """
    here = f(rows)
    slopes = np.zeros(here.shape[:2] + rows.shape[1:])
    errors = np.zeros_like(slopes)
    for n, k in np.ndindex(*rows.shape):

        def at(distance, n=n, k=k):
            moved = rows.copy()
            moved[n, k] += distance
            return f(moved)[n]

        first, second = (
            (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
            for h in (step, step / 2)
        )
        # The slopes of the two sides part by h f'' where f is smooth, and stay apart at
        # a kink.
        bends = [(at(h) + at(-h) - 2 * here[n]) / h for h in (step, step / 2)]
        kink = np.abs(2 * bends[1] - bends[0])
        slopes[n, :, k] = second
        errors[n, :, k] = np.abs(second - first) + kink
    # A part of f may be in float32: what rounding does to one, it may do to others.
    return slopes, np.zeros_like(errors) + errors.max((1, 2), keepdims=True, initial=0)
