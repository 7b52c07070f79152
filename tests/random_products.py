"""Random products of tensors of several shapes that all depend on x."""

import numpy as np

from batchhess.compat import tf

# The most elements that an observation may have, and the most axes.
_MOST, _AXES = 36, 4


def draw_products(random, words, t):
    """Draws some steps on what was made of x, mostly of x itself.

    Args:
      random: RandomState.
      words: list to which the names of the steps are added.
      t: Tensor [N, K].

    Returns:
      a Tensor [N, width].
    """
    size = _event(t)[0]
    made = [t]
    for rows in range(2, size):
        if size % rows == 0:
            made.append(tf.reshape(t, [-1, rows, size // rows]))
    for _ in range(random.randint(1, 4)):
        name = _NAMES[random.randint(len(_NAMES))]
        first, second = (
            made[random.randint(len(made))] if random.rand() < 0.6 else made[-1]
            for _ in range(2)
        )
        after = _STEPS[name](random, first, second)
        if after is not None and _is_small(_event(after)):
            words.append("{}{}".format(name, _event(after)))
            made.append(after)
    name = sorted(_ENDS)[random.randint(len(_ENDS))]
    words.append(name)
    return _ENDS[name](random, made[-1])


def _event(t):
    return t.shape.as_list()[1:]


def _size(event):
    return int(np.prod(event))


def _is_small(event):
    return len(event) <= _AXES and 0 < _size(event) <= _MOST


def _constant(random, event, dtype):
    return tf.constant(random.randn(*event) / np.sqrt(event[0]), dtype)


def _inner(random, t):
    """One of the axes of `t` after the observations'."""
    return random.randint(1, t.shape.ndims)


def _multiplied(random, first, second):
    """By an op that broadcasts."""
    ops = [tf.multiply, tf.multiply, tf.subtract, tf.add, tf.math.squared_difference]
    ops += [lambda a, b: a / (2 + tf.sin(b)), lambda a, b: tf.tanh(a) * b]
    return ops[random.randint(len(ops))](first, second)


def _outer(random, first, second):
    """Each element of one with each of the other."""
    if _size(_event(first) + _event(second)) > _MOST:
        return None
    one, other = first.shape.ndims - 1, second.shape.ndims - 1
    if random.rand() < 0.5:
        first, second, one, other = second, first, other, one
    for _ in range(other):
        first = tf.expand_dims(first, -1)
    for _ in range(one):
        second = tf.expand_dims(second, 1)
    return _multiplied(random, first, second)


def _pairs(random, first, second):
    """Each place along an axis with each other one: distances of particles."""
    axis = _inner(random, first)
    if _size(_event(first)) * _event(first)[axis - 1] > _MOST:
        return None
    first, second = tf.expand_dims(first, axis), tf.expand_dims(first, axis + 1)
    return _multiplied(random, first, second)


def _parts(random, first, second):
    """A part of it, with sizes of 1, broadcast against all of it."""
    axis = _inner(random, first)
    some = first[(slice(None),) * axis + (slice(0, 1),)]
    ways = [tf.reduce_sum, tf.reduce_mean, tf.reduce_logsumexp]
    if random.rand() < 0.7:
        some = ways[random.randint(3)](first, axis, keepdims=True)
    return _multiplied(
        random, *((some, first) if random.rand() < 0.5 else (first, some))
    )


def _matmul(random, first, second):
    """Of it with itself, or with another one that fits."""
    if first.shape.ndims == 2:
        first = tf.expand_dims(first, random.randint(1, 3))
    fits = _event(second)[:-2] == _event(first)[:-2] and second.shape.ndims > 2
    if not (fits and _event(second)[-1] == _event(first)[-1]):
        second = first
    if second is first and random.rand() < 0.5:
        return tf.matmul(first, first, transpose_a=True)
    return tf.matmul(first, second, transpose_b=True)


def _einsum(random, first, second):
    """Letters that are as long may be one, and some of them are summed."""
    terms, sizes = [], {}
    for event in (_event(first), _event(second)):
        term = []
        for size in event:
            same = [c for c in sizes if sizes[c] == size and c not in term]
            if not same or random.rand() < 0.4:
                same = ["abcdefgh"[len(sizes)]]
                sizes[same[0]] = size
            term.append(same[random.randint(len(same))])
        terms.append("".join(term))
    output = [c for c in sizes if random.rand() < 0.6]
    random.shuffle(output)
    if _size([sizes[c] for c in output]) > _MOST:
        return None
    equation = "n{},n{}->n{}".format(terms[0], terms[1], "".join(output))
    found = tf.einsum(equation, first, second)
    return found if output else found[:, None]


def _matrix_of_x(random, first, second):
    size = _event(first)[-1]
    if first.shape.ndims != 2 or size**2 > _MOST:
        return None
    weights = _constant(random, [size, size * size], first.dtype)
    matrix = tf.reshape(tf.sin(tf.matmul(first, weights)), [-1, size, size])
    return tf.squeeze(tf.matmul(matrix, first[:, :, None]), [2])


def _arranged(random, first, second):
    """The same elements elsewhere, or more than once."""
    axis, rank = _inner(random, first), first.shape.ndims
    length = _event(first)[axis - 1]
    times = [2 if a == axis else 1 for a in range(rank)]
    ways = [
        lambda: tf.transpose(first, [0] + list(1 + random.permutation(rank - 1))),
        lambda: tf.reshape(first, [-1, _size(_event(first))]),
        lambda: tf.tile(first, times),
        lambda: tf.stack([first, 2 * first], axis=axis),
        lambda: tf.concat([first, first], axis),
        lambda: tf.gather(first, random.randint(length, size=2), axis=axis),
        lambda: tf.reverse(first, [axis]),
        lambda: tf.expand_dims(first, axis),
        lambda: tf.cumsum(first, axis=axis),
    ]
    return ways[random.randint(len(ways))]()


def _weighted(random, first, second):
    return first * _constant(random, _event(first), first.dtype)


def _summed(random, first, second):
    return tf.reduce_sum(first, _inner(random, first), keepdims=random.rand() < 0.5)


_STEPS = {
    "outer": _outer,
    "pairs": _pairs,
    "parts": _parts,
    "matmul": _matmul,
    "einsum": _einsum,
    "matrix of x": _matrix_of_x,
    "arranged": _arranged,
    "weighted": _weighted,
    "summed": lambda random, first, second: (
        _summed(random, first, second) if first.shape.ndims > 2 else None
    ),
}

_NAMES = sorted(_STEPS) + ["outer", "pairs", "parts"] * 2 + ["matmul", "einsum"]

# From a Tensor [N, ...] to one [N, width].
_ENDS = {
    "all": lambda random, t: tf.reshape(t, [-1, _size(_event(t))])[:, :6],
    "weighted sum": lambda random, t: tf.reduce_sum(
        _weighted(random, t, t), list(range(1, t.shape.ndims))
    )[:, None],
    "combined": lambda random, t: tf.matmul(
        tf.reshape(t, [-1, _size(_event(t))]),
        _constant(random, [_size(_event(t)), 3], t.dtype),
    ),
    "sine": lambda random, t: tf.sin(tf.reshape(t, [-1, _size(_event(t))]))[:, -6:],
}
