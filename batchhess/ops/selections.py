"""Ops that pick elements by their index, or add elements up by it."""

from batchhess.compat import IS_V1, outer_graphs, raw_ops, static_value, tf
from batchhess.graph.tensors import (
    has_own_gradient,
    own_gradient,
    product_of,
    tensor_key,
)
from batchhess.ops.inputs import KNOWN, NEVER, OUTPUT_SHAPE, PARAMETER, each
from batchhess.ops.shapes import axis_input, same_size
from batchhess.ops.sizes import (
    dimensions_of,
    elements_of,
    ints_of,
    of_gather,
    of_slice,
    of_strided_slice,
)
from batchhess.ops.states import (
    BATCHED,
    FREE,
    SCATTERED,
    SUMMED,
    NotProvenError,
    batched,
    copied,
    rank_of,
)
from batchhess.ops.table import SOUND, YES, Guard, Rewrite, op


def _rearrange(op, states, walk):
    axes = ints_of(op.inputs[-1])
    if axes is None or states[0].kind != BATCHED:
        return copied(states)
    touched = {a % rank_of(op.inputs[0]) for a in axes}
    return SCATTERED if states[0].axis in touched else states[0]


def _reverse_sequence(op, states, walk):
    """Each row back to front, as far as its length; rows are along `batch_dim`."""
    if states[0].kind != BATCHED or states[1].kind != FREE:
        return copied(states)
    mixed = states[0].axis == op.get_attr("seq_dim")
    return SCATTERED if mixed else states[0]


def _lengths(op, place, states, walk):
    return 0 if states[0].axis == op.get_attr("batch_dim") else None


def _slice(op, states, walk):
    state = states[0]
    begin, size = elements_of(op.inputs[1]), elements_of(op.inputs[2])
    if state.kind != BATCHED or begin is None or size is None:
        return copied(states)
    whole, taken = dimensions_of(op.inputs[0])[state.axis], size[state.axis]
    from_start = begin[state.axis] == 0
    if from_start and (taken == -1 or same_size(whole, taken, state, walk)):
        return state
    return SCATTERED


_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


def _strided_slice(op, states, walk):
    state = states[0]
    parts = [elements_of(t) for t in op.inputs[1:4]]
    if state.kind != BATCHED or None in parts:
        return copied(states)
    place, i = _places(op, rank_of(op.inputs[0]), len(parts[0]))[state.axis]
    if i is None:
        return batched(place, state.origin)
    return _cut(op, state, place, _bounds(op, parts, i), parts[2][i])


def _strided_slice_gradient(op, states, walk):
    """Zeros, but for what was cut out."""
    state = states[-1]
    whole, *parts = (elements_of(t) for t in op.inputs[:4])
    if state.kind != BATCHED or whole is None or None in parts:
        return copied([state])
    places = _places(op, len(whole), len(parts[0]))
    axis = [place for place, _ in places].index(state.axis)
    i = places[axis][1]
    is_whole = i is None or _bounds(op, parts, i) + [parts[2][i]] == [None, None, 1]
    return batched(axis, state.origin) if is_whole else SCATTERED


def _places(op, rank, count):
    """Where the axes of a tensor are when it is sliced.

    Args:
      rank: int, of that tensor.
      count: int, how many places the slice tells of.

    Returns:
      list of pairs for each axis: which one it becomes, None if it goes; and the place
      that cuts it, None if none does.
    """
    masks = {m: op.get_attr(m + "_mask") for m in _MASKS}
    found, after = [], 0
    for i in range(count):
        bit = 1 << i
        if masks["ellipsis"] & bit:
            later = sum(not masks["new_axis"] >> j & 1 for j in range(i + 1, count))
            hidden = rank - len(found) - later
            found += [(after + j, None) for j in range(hidden)]
            after += hidden
        elif masks["new_axis"] & bit:
            after += 1
        else:
            shrinks = bool(masks["shrink_axis"] & bit)
            found.append((None if shrinks else after, i))
            after += not shrinks
    rest = range(rank - len(found))
    return found + [(after + j, None) for j in rest]


def _bounds(op, parts, i):
    """Where place `i` of a slice begins and ends; None for an end of the axis."""
    sides = zip(("begin", "end"), parts)
    return [None if op.get_attr(m + "_mask") >> i & 1 else p[i] for m, p in sides]


def _cut(op, state, place, bounds, stride):
    """The state where the observation axis itself is cut; None bounds are its ends."""
    if place is None:
        return SCATTERED
    if bounds == [None, None] and stride == 1:
        return batched(place, state.origin)
    cut = bounds + [stride]
    known = all(e is None or isinstance(e, int) for e in cut) and stride is not None
    by = tuple(cut) if known else (op,)
    return batched(place, ("slice", state.origin) + by)


def _batch_dims(op):
    """Of a gather: how many axes of the parameters the indices share, from 0."""
    attr = op.node_def.attr
    batch = op.get_attr("batch_dims") if "batch_dims" in attr else 0
    return batch + rank_of(op.inputs[1]) if batch < 0 else batch  # May be the rank.


def _gather(op, states, walk):
    state, axis = states[0], axis_input(op, 2, op.inputs[0])
    places = op.inputs[1].shape.ndims
    if state.kind != BATCHED or axis is None or places is None:
        return copied(states)
    if state.axis < axis:
        return state
    batch = _batch_dims(op)
    if state.axis == axis:
        picked = ("gather", state.origin, tensor_key(op.inputs[1]))
        return batched(axis, picked) if places == 1 and not batch else SCATTERED
    return batched(state.axis + places - batch - 1, state.origin)


def _gather_indices(op, place, states, walk):
    """Each observation has indices of its own where the observations are shared."""
    if place == 2:
        return KNOWN(op, place, states, walk)
    return states[0].axis if states[0].axis < _batch_dims(op) else None


# 1.15 differentiates two gathers once only. Whose indices share axes: their gradient
# flattens these to their Size, which its optimizer takes for the part that it knows,
# and the next gradient for another shape. And any in a loop or branch: their gradient
# adds up rows by index, of which the next must know how many axes the rows have; what
# comes off a loop's stacks does not tell. There they get a gradient by ScatterNd, which
# is right however often, and in which no op has less than three axes of indices: with
# two, that of GatherNd would add up rows again.


def _has_old_gradient(op, depends):
    params, indices = (t.shape for t in op.inputs[:2])
    if not IS_V1 or has_own_gradient(op) or not depends([op.inputs[0]]):
        return False
    if None in (params.ndims, indices.ndims, ints_of(op.inputs[2])):
        return False
    flattens = bool(_batch_dims(op)) and not indices.is_fully_defined()
    return flattens or _is_in_body(op)


def _adds_up_rows(op, depends):
    needs = IS_V1 and not has_own_gradient(op) and depends([op.inputs[0]])
    return needs and op.inputs[1].shape.ndims == 2 and _is_in_body(op)


def _is_in_body(op):
    return len(outer_graphs(op.graph)) > 1


def _gathered(op):
    params, indices, axis = op.inputs
    with own_gradient(op.type, "BatchhessGatherOfEach"):
        return [
            raw_ops.GatherV2(
                params=params, indices=indices, axis=axis, batch_dims=_batch_dims(op)
            )
        ]


def _gathered_rows(op):
    with own_gradient(op.type, "BatchhessGatherRows"):
        return [raw_ops.GatherNd(params=op.inputs[0], indices=op.inputs[1])]


@tf.RegisterGradient("BatchhessGatherOfEach")
def _gather_gradient(op, grad):
    """Sets each element where it was taken, by its indices along all shared axes."""
    params, indices = op.inputs[:2]
    axis, batch = axis_input(op, 2, params), _batch_dims(op)
    order = _order(params.shape.ndims, axis, batch)
    shape = tf.gather(tf.shape(params, out_type=indices.dtype), order)
    places = [
        tf.reshape(
            tf.range(shape[a]),
            [-1 if a == b else 1 for b in range(indices.shape.ndims)],
        )
        + tf.zeros_like(indices)
        for a in range(batch)
    ]
    count = indices.shape.ndims - batch
    grad = tf.transpose(grad, _order(len(order) - 1 + count, axis, batch, count))
    found = _added_up(tf.stack(places + [indices], -1), grad, shape)
    return tf.transpose(found, _order(len(order), batch, axis)), None, None


@tf.RegisterGradient("BatchhessGatherRows")
def _gather_rows_gradient(op, grad):
    params, indices = op.inputs
    return _added_up(indices, grad, tf.shape(params, out_type=indices.dtype)), None


def _added_up(indices, grad, shape):
    return tf.scatter_nd(indices[None], grad[None], shape)


def _order(rank, source, target, count=1):
    """The order of axes in which the `count` from `source` begin at `target`."""
    moved = list(range(source, source + count))
    others = [a for a in range(rank) if a not in moved]
    return others[:target] + moved + others[target:]


def _gather_nd(op, states, walk):
    state, indices = states[0], op.inputs[1].op
    leading = state.kind == BATCHED and state.axis == 0
    batch = op.get_attr("batch_dims") if "batch_dims" in op.node_def.attr else 0
    if leading and not batch and indices.type == "Pack":
        # tf.stack([tf.range(N), ...], axis=1): element n is taken from observation n.
        in_order = _is_range(indices.inputs[0], op.inputs[0], state, walk)
        flat = op.inputs[1].shape.ndims == 2
        if flat and indices.get_attr("axis") in (1, -1) and in_order:
            return batched(0, state.origin)
    return copied(states)


def _leaves_out_zeros(op):
    """tf.sparse.from_dense: what is zero has no derivative there, though f has one."""
    where = op.inputs[1].op
    if where.type != "Where" or where.inputs[0].op.type != "NotEqual":
        return False
    keys = [tensor_key(t) for t in where.inputs[0].op.inputs]
    return tensor_key(op.inputs[0]) in keys


def _is_range(tensor, params, state, walk):
    """Whether `tensor` is tf.range over the observations of `params`."""
    if tensor.op.type != "Range":
        return False
    start, limit, delta = (elements_of(t) for t in tensor.op.inputs)
    size = dimensions_of(params)[0]
    return (start, delta) == ([0], [1]) and same_size(size, limit[0], state, walk)


def _segments(op, states, walk):
    """Adds up along the first axes, which the segment ids have."""
    state = states[0]
    if any(s.kind != FREE for s in states[1:]):
        raise NotProvenError("has segments that depend on x")
    first = op.inputs[1].shape.ndims
    if state.kind != BATCHED or first is None or state.axis < first:
        return SUMMED
    return batched(state.axis - first + 1, state.origin)


def _scatter(op, states, walk):
    """Adds up where indices meet; the axes that these do not tell of stay."""
    state, shape = states[1], op.inputs[0].shape
    if states[0].kind != FREE or state.kind != BATCHED or shape.ndims is None:
        return SUMMED
    depth = shape.as_list()[-1]
    if depth is None or state.axis < shape.ndims - 1:
        return SUMMED
    return batched(state.axis - (shape.ndims - 1) + depth, state.origin)


def _added_to(op, states, walk):
    return SUMMED


def _overwritten(op, states, walk):
    return copied(states)


def _may_meet_again(op):
    """Whether the graph leaves open that two updates are of one place."""
    indices = op.inputs[1]
    known = static_value(indices)
    if known is None:
        updates = indices.shape[:-1]
        return not updates.is_fully_defined() or product_of(updates.as_list()) != 1
    rows = known.reshape(-1, known.shape[-1])
    return len({tuple(row) for row in rows.tolist()}) < len(rows)


def _once(op):
    """1 for each place that no more than one update is of, or 0."""
    indices, places = op.inputs[1], tf.shape(op.inputs[0], out_type=op.inputs[1].dtype)
    ones = tf.ones(tf.shape(indices)[:-1], tf.int32)
    counts = tf.scatter_nd(indices, ones, places[: tf.shape(indices)[-1]])
    return tf.cast(counts <= 1, tf.int32)


op("ReverseV2 Roll", _rearrange, each(NEVER, KNOWN), YES, twice=SOUND)
op("ReverseSequence", _reverse_sequence, each(NEVER, _lengths), YES, twice=SOUND)
op(
    "Slice",
    _slice,
    each(NEVER, KNOWN, OUTPUT_SHAPE),
    YES,
    twice=SOUND,
    elements=of_slice,
)
op(
    "StridedSlice",
    _strided_slice,
    each(NEVER, KNOWN),
    YES,
    twice=SOUND,
    elements=of_strided_slice,
)
op(
    "StridedSliceGrad",
    _strided_slice_gradient,
    each(OUTPUT_SHAPE, KNOWN, KNOWN, KNOWN, NEVER),
    YES,
    twice=SOUND,
    shape_input=0,
)
op(
    "GatherV2",
    _gather,
    _gather_indices,
    YES,
    twice=SOUND,
    elements=of_gather,
    rewrites=[Rewrite(_has_old_gradient, _gathered)],
)
op("Gather", twice=SOUND)
op("ResourceGather ResourceGatherNd", twice=SOUND, repeatable=True)
op(
    "GatherNd",
    _gather_nd,
    NEVER,
    YES,
    twice=SOUND,
    rewrites=[Rewrite(_adds_up_rows, _gathered_rows)],
    guard=Guard(
        "Multiply by the dense tensor itself, or declare it constant with "
        "tf.stop_gradient.",
        why="a zero in the tensor of which it leaves out all zeros",
        holds=_leaves_out_zeros,
    ),
)
op(
    "SegmentMean SegmentSum UnsortedSegmentSum",
    _segments,
    each(NEVER, PARAMETER),
    YES,
    twice=SOUND,
)
op("ScatterNd", _scatter, NEVER, YES, twice=SOUND)
op("TensorScatterAdd TensorScatterSub", _added_to, NEVER, YES, twice=SOUND)
op(
    "TensorScatterUpdate",
    _overwritten,
    NEVER,
    YES,
    twice=SOUND,
    guard=Guard(
        "Pass each index once, or add up by tf.tensor_scatter_nd_add.",
        place=2,
        zeros=_once,
        why="an index twice, and its gradient is that of both updates",
        holds=_may_meet_again,
        wrong_once=True,
    ),
)
