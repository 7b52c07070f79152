"""Ops that make one element of many, or of all before it."""

from batchhess.compat import IS_V1, tf
from batchhess.ops.inputs import KNOWN, NEVER, PARAMETER, each
from batchhess.ops.shapes import axis_input
from batchhess.ops.sizes import ints_of, of_product
from batchhess.ops.states import (
    BATCHED,
    LOOSE,
    SUM,
    SUMMED,
    NotProvenError,
    batched,
    need_batched,
    need_each,
    rank_of,
)
from batchhess.ops.table import (
    OF_COMPLEX,
    SOUND,
    TOTALLED,
    UNKNOWN,
    YES,
    Fault,
    Guard,
    Rewrite,
    op,
)


def _sum(op, states, walk):
    if states[0].kind != BATCHED or ints_of(op.inputs[1]) is None:
        return SUMMED
    return _without_reduced(op, states[0]) or SUMMED


def _reduction(op, states, walk):
    kept = _without_reduced(op, need_batched(states[0]))
    if kept is None:
        raise NotProvenError("reduces over the observation axis, and is not linear")
    return kept


def _l2_loss(op, states, walk):
    need_each(states[0])
    return SUMMED


def _without_reduced(op, state):
    """The state after the reduction `op`; None if it reduces the observation axis."""
    axes = ints_of(op.inputs[1])
    if axes is None:
        raise NotProvenError("reduces over axes that the graph does not tell")
    rank = rank_of(op.inputs[0])
    axes = {a % rank for a in axes}
    if state.axis in axes:
        return None
    if op.get_attr("keep_dims"):
        return state
    return batched(state.axis - sum(a < state.axis for a in axes), state.origin)


def along_axis(op, state, axis):
    """For an op that mixes along `axis`."""
    need_batched(state)
    if axis is None or state.axis == axis:
        raise NotProvenError("works along the observation axis")
    return state


def _cumulative(op, states, walk):
    return along_axis(op, states[0], axis_input(op, 1, op.inputs[0]))


def _cumulative_sum(op, states, walk):
    axis = axis_input(op, 1, op.inputs[0])
    if states[0].kind in (SUM, LOOSE) or axis is None or states[0].axis == axis:
        return SUMMED
    return states[0]


def _top_k(op, states, walk):
    return along_axis(op, states[0], rank_of(op.inputs[0]) - 1)


def _fourier(op, states, walk):
    """Along the last axes, as many as the name tells."""
    axes = int(op.type[-2]) if op.type.endswith("D") else 1
    rank = rank_of(op.inputs[0])
    for axis in range(rank - axes, rank):
        along_axis(op, states[0], axis)
    return states[0]


# Products, which TensorFlow differentiates wrongly, or not at all, at zeros.

# More factors are left to TensorFlow, and guarded against zeros.
_MOST_FACTORS = 64


def _is_short(op, depends):
    shape, axes = op.inputs[0].shape, _product_axes(op)
    if axes is None or not depends([op.inputs[0]]):
        return False
    return all(0 < (shape.as_list()[axis] or 0) <= _MOST_FACTORS for axis in axes)


def _product_axes(op):
    """The axes of a product, the last one first; None if the graph does not tell."""
    axes, rank = ints_of(op.inputs[1]), op.inputs[0].shape.ndims
    if axes is None or rank is None:
        return None
    return sorted({a % rank for a in axes}, reverse=True)


def _product(op):
    """Factor by factor, each axis in turn, the last one first."""
    tensor = op.inputs[0]
    for axis in _product_axes(op):
        tensor = _products(tf.unstack(tensor, axis=axis))[-1]
        if op.get_attr("keep_dims"):
            tensor = tf.expand_dims(tensor, axis)
    return [tensor]


def _cumulative_product(op):
    (axis,) = _product_axes(op)
    factors = tf.unstack(op.inputs[0], axis=axis)
    if op.get_attr("reverse"):
        factors = factors[::-1]
    if op.get_attr("exclusive"):
        factors = [tf.ones_like(factors[0])] + factors[:-1]
    products = _products(factors)
    if op.get_attr("reverse"):
        products = products[::-1]
    return [tf.stack(products, axis=axis)]


def _products(factors):
    """The products of the first 1, 2, ... factors."""
    products = []
    for factor in factors:
        products.append(products[-1] * factor if products else factor)
    return products


_AXES = each(NEVER, KNOWN)

op("Sum", _sum, _AXES, YES, TOTALLED, twice=SOUND)
op("Mean", _sum, _AXES, YES, twice=SOUND)
op("Max Min", _reduction, _AXES, twice=SOUND)
# 1.15 has no gradient of it.
op(
    "EuclideanNorm",
    _reduction,
    _AXES,
    twice=UNKNOWN if IS_V1 else SOUND,
    faults=[OF_COMPLEX],
)
op(
    "Prod",
    _reduction,
    _AXES,
    twice=SOUND,
    faults=[OF_COMPLEX],
    rewrites=[Rewrite(_is_short, _product)],
    guard=Guard("Write the product of the factors one by one."),
    elements=of_product,
)
op("L2Loss", _l2_loss, NEVER, twice=SOUND)
op("Cumsum", _cumulative_sum, _AXES, YES, twice=SOUND)
op("CumulativeLogsumexp", _cumulative, _AXES, twice=SOUND)
op(
    "Cumprod",
    _cumulative,
    _AXES,
    twice=SOUND,
    faults=[OF_COMPLEX],
    rewrites=[Rewrite(_is_short, _cumulative_product)],
    guard=Guard("Write the products of the factors one by one."),
)
op("TopKV2", _top_k, each(NEVER, PARAMETER), twice=SOUND)
op("FFT FFT2D FFT3D IFFT IFFT2D IFFT3D", _fourier, twice=SOUND)


def _lengths(op):
    """What it takes of the last axes of its input, and their sizes: None if unknown."""
    taken = ints_of(op.inputs[1]) or [None] * op.inputs[1].shape.as_list()[0]
    if op.type.startswith("I") and taken[-1] is not None:
        taken = taken[:-1] + [taken[-1] // 2 + 1]  # The other half is its conjugate.
    return list(zip(taken, op.inputs[0].shape.as_list()[-len(taken) :]))


def _is_cut(op, depends):
    return any(t < size for t, size in _lengths(op) if None not in (t, size))


def _may_be_cut(op):
    return any(None in pair for pair in _lengths(op))


def _is_whole(op):
    """1 for each of the last axes that is taken whole, or 0."""
    taken = op.inputs[1]
    if op.type.startswith("I"):
        taken = tf.concat([taken[:-1], taken[-1:] // 2 + 1], 0)
    sizes = tf.shape(op.inputs[0])[-op.inputs[1].shape.as_list()[0] :]
    return tf.cast(taken >= sizes, tf.int32)


_CUT = "Cut the input to that length before, by tf.slice."

op(
    "IRFFT IRFFT2D RFFT RFFT2D",
    _fourier,
    twice=SOUND,
    faults=[
        Fault(
            _is_cut,
            "takes the gradient of the part that fft_length leaves for that of all",
            _CUT,
            spoils_values=True,
            wrong_once=True,
        )
    ],
    guard=Guard(
        _CUT,
        zeros=_is_whole,
        why="an fft_length that leaves a part of its input out",
        holds=_may_be_cut,
        wrong_once=True,
    ),
)
