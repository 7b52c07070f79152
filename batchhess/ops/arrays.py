"""Lists of tensors, as loops of control flow v2 carry them, and their v1 arrays."""

from batchhess.ops.sizes import ints_of
from batchhess.ops.states import FREE, NotProvenError, batched, need_batched
from batchhess.ops.table import SOUND, Fault, op


def _list_of_slices(op, states, walk):
    """The state of a list is that of each of its elements."""
    if need_batched(states[0]).axis == 0:
        raise NotProvenError("makes a list of single observations")
    return batched(states[0].axis - 1, states[0].origin)


def _set_item(op, states, walk):
    alive = [need_batched(s) for s in (states[0], states[2]) if s.kind != FREE]
    if alive[0] != alive[-1]:
        raise NotProvenError("joins different observations in one list")
    return alive[0]


def _get_item(op, states, walk):
    return need_batched(states[0])


def _stack_of_items(op, states, walk):
    return batched(need_batched(states[0]).axis + 1, states[0].origin)


def _picks_twice(op, depends):
    indices = ints_of(op.inputs[1])
    return indices is not None and len(set(indices)) < len(indices)


_PICKED_TWICE = Fault(
    _picks_twice,
    "keeps one of the gradients of an element that is picked twice",
    "Read each element once, or use tf.gather of the stacked elements.",
    spoils_values=True,
)

op(
    "TensorListFromTensor TensorListScatterV2 TensorListScatter",
    _list_of_slices,
    twice=SOUND,
)
op("TensorListSetItem", _set_item, twice=SOUND)
op("TensorListGetItem", _get_item, twice=SOUND)
op("TensorListStack", _stack_of_items, twice=SOUND)
op("TensorListGather", _stack_of_items, twice=SOUND, faults=[_PICKED_TWICE])
# A loop that has been differentiated keeps what it passes in these.
op("TensorListPushBack TensorListPopBack", twice=SOUND)
op("TensorListReserve EmptyTensorList TensorListLength TensorListResize", twice=SOUND)
op(
    """TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayScatterV3
    TensorArrayGatherV3 TensorArraySizeV3 TensorArrayConcatV3 TensorArraySplitV3
    TensorArrayCloseV3 TensorArrayGradV3""",
    twice=SOUND,
)
