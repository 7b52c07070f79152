"""Ops that give elements other places: shapes, orders of axes, joins, repetitions."""

import operator

from batchhess.compat import static_value
from batchhess.graph.tensors import product_of, tensor_key
from batchhess.ops.inputs import (
    BESIDE,
    KNOWN,
    NEVER,
    OUTPUT_SHAPE,
    PARAMETER,
    each,
)
from batchhess.ops.sizes import (
    Size,
    dimensions_of,
    elements_of,
    ints_of,
    of_concat,
    of_input,
    of_pack,
)
from batchhess.ops.states import (
    BATCHED,
    CYCLED,
    FOLDED,
    FREE,
    SCATTERED,
    SUM,
    NotProvenError,
    batched,
    broadcast_state,
    copied,
    rank_of,
)
from batchhess.ops.table import (
    AFFINE,
    JOINED,
    RESHAPED,
    SOUND,
    TRANSPOSED,
    YES,
    no_gradient_by,
    op,
)


def axis_input(op, place, tensor):
    """Input `place` of `op` as an axis of `tensor`, from 0; None if not known."""
    value, rank = ints_of(op.inputs[place]), tensor.shape.ndims
    return None if value is None or rank is None else value[0] % rank


def same_size(size, other, state, walk):
    """Whether `other` is as large as the observation axis of `state`, of `size`."""
    if isinstance(size, Size) and isinstance(other, Size):
        if size == other:
            return True
        measured = walk.state(other.tensor)
        return (measured.kind, measured.axis, measured.origin) == (
            BATCHED,
            other.axis,
            state.origin,
        )
    return isinstance(size, int) and size == other and size > 0


def _reshape(op, states, walk):
    state, before = states[0], dimensions_of(op.inputs[0])
    if state.kind == SUM:
        return _as_before_broadcast(op, walk) or copied(states)
    if state.kind != BATCHED or before is None:
        return copied(states)
    asked = elements_of(op.inputs[1]) or []
    known = op.outputs[0].shape.ndims is not None
    after = op.outputs[0].shape.as_list() if known else asked
    if len(asked) == len(after):
        after = [b if a is None else a for a, b in zip(after, asked)]
    places = [
        place
        for place in range(len(after))
        if _same_product(before[: state.axis], after[:place])
    ]
    for place in places:
        same_rest = _same_product(before[state.axis + 1 :], after[place + 1 :])
        if same_rest or same_size(before[state.axis], after[place], state, walk):
            return batched(place, state.origin)
    for place in places:
        others = before[state.axis + 1 :], after[place + 1 :]
        origin = _taken_in(FOLDED, state.origin, *others)
        if origin is not None:
            return batched(place, origin)
    for place in range(len(after)):
        if _same_product(before[state.axis + 1 :], after[place + 1 :]):
            others = before[: state.axis], after[:place]
            origin = _taken_in(CYCLED, state.origin, *others)
            if origin is not None:
                return batched(place, origin)
    return copied(states)


def _as_before_broadcast(op, walk):
    """The state where a gradient is summed to the shape of a factor or a term.

    TensorFlow sums over the axes along which that was broadcast, as the run tells, and
    gives the sum its shape. Along the observations it was not if it has as many; or
    there is one, whose sum is itself.

    Returns:
      a `State`; None where this is not such a gradient, or a sum over observations.
    """
    tensor = _summed_to_shape(op)
    if tensor is None:
        return None
    state, before = walk.state(tensor), dimensions_of(tensor)
    after = elements_of(op.inputs[1])
    if state.kind != BATCHED or before is None or after is None:
        return None
    place = state.axis + len(after) - len(before)
    if place < 0 or not same_size(before[state.axis], after[place], state, walk):
        return None
    return batched(place, state.origin)


def _summed_to_shape(op):
    """What a Reshape takes the sum of, if it is what a gradient of a broadcast does."""
    inputs = op.inputs[0].op.inputs
    axes = inputs[1] if len(inputs) == 2 else None
    if axes is None or axes.op.type != "BroadcastGradientArgs":
        return None
    shape = axes.op.inputs[axes.value_index]
    return inputs[0] if _begins(shape, op.inputs[1]) else None


def _begins(first, shape):
    """Whether `first` is `shape`, or its first sizes, as a product of matrices asks."""
    if tensor_key(first) == tensor_key(shape):
        return True
    if first.op.type != "StridedSlice":
        return False
    some, whole = elements_of(first), elements_of(shape)
    is_slice = tensor_key(first.op.inputs[0]) == tensor_key(shape)
    return bool(is_slice and some and whole) and some == whole[: len(some)]


def summed_over_none(tensor, alike=operator.eq):
    """What a gradient was before it was summed to a shape, if it has that shape.

    Args:
      tensor: Tensor.
      alike: function from two sizes, each an int or a `Size`, to whether the graph
        tells that they are the same.

    Returns:
      a Tensor that equals `tensor` in each run; None where it is no such gradient, or
      the graph does not tell.
    """
    op = tensor.op
    before = _summed_to_shape(op) if op.type == "Reshape" else None
    if before is None:
        return None
    axes = op.inputs[0].op.inputs[1]
    own, other = (
        elements_of(axes.op.inputs[place])
        for place in (axes.value_index, 1 - axes.value_index)
    )
    if own is None or other is None or len(other) > len(own):
        return None
    if before.shape.ndims is None or before.shape.ndims != op.outputs[0].shape.ndims:
        return None
    other = [1] * (len(own) - len(other)) + other
    is_idle = all(
        b == 1 or alike(a, b) or isinstance(a, int) and a > 1
        for a, b in zip(own, other)
    )
    return before if is_idle else None


def _taken_in(kind, origin, before, after):
    """What indices are of where an axis takes in others, or is split into them.

    Args:
      kind: FOLDED for axes behind it, CYCLED for axes before it.
      origin: of the axis before.
      before: list of the sizes of the others before.
      after: list of their sizes afterwards.

    Returns:
      `origin`, or None if an index would hold parts of several observations.
    """
    if not all(isinstance(d, int) and d > 0 for d in before + after):
        return None
    inner, each_one = origin[1:] if origin[0] == kind else (origin, 1)
    each_one, rest = divmod(each_one * product_of(before), product_of(after))
    if rest or not each_one:
        return None
    return inner if each_one == 1 else (kind, inner, each_one)


def _same_product(before, after):
    """Whether two lists of sizes surely have the same product, which is not zero."""
    if not all(isinstance(d, int) for d in before + after):
        return False
    return product_of(before) == product_of(after) != 0


def _transpose(op, states, walk):
    if states[0].kind != BATCHED:
        return copied(states)
    order = ints_of(op.inputs[1])
    if order is None:
        raise NotProvenError("reorders axes in a way that the graph does not tell")
    return batched(order.index(states[0].axis), states[0].origin)


def _expand_dims(op, states, walk):
    axis = ints_of(op.inputs[1])
    if states[0].kind != BATCHED or axis is None:
        return copied(states)
    new = axis[0] % (rank_of(op.inputs[0]) + 1)
    return batched(states[0].axis + (new <= states[0].axis), states[0].origin)


def _squeeze(op, states, walk):
    dims = op.get_attr("squeeze_dims")
    if states[0].kind != BATCHED or not dims:
        return copied(states)
    gone = {d % rank_of(op.inputs[0]) for d in dims}
    if states[0].axis in gone:
        return SCATTERED
    return batched(
        states[0].axis - sum(d < states[0].axis for d in gone), states[0].origin
    )


def along(states, axis):
    """For an op that rearranges along `axis` alone; None where it is not known."""
    alive = [s for s in states if s.kind != FREE]
    if axis is None or any(s.kind != BATCHED for s in alive):
        return copied(states)
    if len({(s.axis, s.origin) for s in alive}) > 1 or alive[0].axis == axis:
        return SCATTERED
    return alive[0]


def _concat(op, states, walk):
    return along(states[:-1], axis_input(op, len(op.inputs) - 1, op.inputs[0]))


def _split(op, states, walk):
    return along(states[1:], axis_input(op, 0, op.inputs[1]))


def _split_v(op, states, walk):
    return along(states[:1], axis_input(op, 2, op.inputs[0]))


def _pack(op, states, walk):
    alive = [s for s in states if s.kind != FREE]
    alike = len({(s.axis, s.origin) for s in alive}) == 1
    if any(s.kind != BATCHED for s in alive) or not alike:
        return copied(states)
    new = op.get_attr("axis") % (rank_of(op.inputs[0]) + 1)
    return batched(alive[0].axis + (new <= alive[0].axis), alive[0].origin)


def _unpack(op, states, walk):
    if states[0].kind != BATCHED:
        return copied(states)
    gone = op.get_attr("axis") % rank_of(op.inputs[0])
    if gone == states[0].axis:
        return SCATTERED
    return batched(states[0].axis - (gone < states[0].axis), states[0].origin)


def _pad(op, states, walk):
    if len(states) > 2 and states[2].kind != FREE:
        raise NotProvenError("pads with a value that depends on x")
    widths = ints_of(op.inputs[1])
    if states[0].kind != BATCHED or widths is None:
        return copied(states)
    axis = states[0].axis
    return SCATTERED if any(widths[2 * axis : 2 * axis + 2]) else states[0]


def _tile(op, states, walk):
    times = elements_of(op.inputs[1])
    if states[0].kind != BATCHED or times is None:
        return copied(states)
    return states[0] if times[states[0].axis] == 1 else SCATTERED


def _broadcast_to(op, states, walk):
    state, tensor = states[0], op.inputs[0]
    if state.kind != BATCHED:
        return copied(states)
    after = broadcast_state([(tensor, state)], op.outputs[0].shape.ndims)
    asked = dimensions_of(op.outputs[0])[after.axis]
    if not isinstance(asked, int):
        asked = (elements_of(op.inputs[1]) or [None] * (after.axis + 1))[after.axis]
    size = dimensions_of(tensor)[state.axis]
    # One observation may be broadcast to many.
    return after if same_size(size, asked, state, walk) else SCATTERED


def _joined(op, place, states, walk):
    """Floats are joined beside the others; indices are read by the proof."""
    if op.inputs[place].dtype.base_dtype.is_integer:
        return KNOWN(op, place, states, walk)
    return BESIDE(op, place, states, walk)


def padded(op):
    """Linear where it is padded with zeros, the last input."""
    padding = static_value(op.inputs[-1])
    return YES if padding is not None and not padding.any() else AFFINE


_KNOWN_AFTER = each(NEVER, KNOWN)

op(
    "Reshape",
    _reshape,
    each(NEVER, OUTPUT_SHAPE),
    YES,
    RESHAPED,
    twice=SOUND,
    elements=of_input,
    shape_input=1,
)
op("Transpose", _transpose, _KNOWN_AFTER, YES, TRANSPOSED, twice=SOUND)
op(
    "ExpandDims",
    _expand_dims,
    _KNOWN_AFTER,
    YES,
    RESHAPED,
    twice=SOUND,
    elements=of_input,
)
op("Squeeze", _squeeze, NEVER, YES, RESHAPED, twice=SOUND, elements=of_input)
op("ConcatV2", _concat, _joined, YES, JOINED, twice=SOUND, elements=of_concat)
op("Pack", _pack, BESIDE, YES, JOINED, twice=SOUND, elements=of_pack)
op("Unpack", _unpack, NEVER, YES, twice=SOUND)
op("Split", _split, each(KNOWN, NEVER), YES, twice=SOUND)
op("SplitV", _split_v, _KNOWN_AFTER, YES, twice=SOUND)
op("Pad MirrorPad", _pad, _KNOWN_AFTER, YES, twice=SOUND)
op(
    "PadV2",
    _pad,
    each(NEVER, KNOWN, PARAMETER),
    padded,
    twice=SOUND,
    faults=[no_gradient_by(2, of="what it pads with")],
)
op("Tile", _tile, _KNOWN_AFTER, YES, twice=SOUND)
op("BroadcastTo", _broadcast_to, each(NEVER, OUTPUT_SHAPE), YES, twice=SOUND)
