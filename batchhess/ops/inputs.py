"""How the inputs that do not depend on x line up with the observations.

Each is a function (op, place, states, walk) -> the axis of that input along which it
has N observations or one; None, it is the same for all; or `SHAPE`.
"""

from batchhess.compat import static_value
from batchhess.ops.sizes import ints_of
from batchhess.ops.states import BATCHED, NotProvenError, rank_of

# An input that holds the shape of the output: its entry for the observations differs.
SHAPE = "shape"


def may_differ():
    return NotProvenError("has an input that may differ between observations")


def PARAMETER(op, place, states, walk):  # noqa: N802
    """The same for all observations, whatever it holds."""


def KNOWN(op, place, states, walk):  # noqa: N802
    """The same for all observations, since the graph tells its value."""
    tensor = op.inputs[place]
    if static_value(tensor) is None and ints_of(tensor) is None:
        raise may_differ()


def OUTPUT_SHAPE(op, place, states, walk):  # noqa: N802
    return SHAPE


def FIRST_AXIS(op, place, states, walk):  # noqa: N802
    return 0


def NEVER(op, place, states, walk):  # noqa: N802
    """An input that the proof demands to depend on x, or to stand for nothing."""
    raise may_differ()


def BESIDE(op, place, states, walk):  # noqa: N802
    """Joined with the others: it has the observations where they have them."""
    return next(s.axis for s in states if s.kind == BATCHED)


def BROADCAST(op, place, states, walk):  # noqa: N802
    """Broadcast to the output: it lies as that does, counted from the right."""
    output = walk.state(op.outputs[0])
    if output.kind != BATCHED:
        raise NotProvenError("has a tensor of unknown rank")
    return from_right(op.inputs[place], rank_of(op.outputs[0]) - output.axis)


def from_right(tensor, places, may_be_one=True):
    """The axis that broadcasting puts `places` from the end.

    None if the tensor has no such axis; or if it is 1 long, so that the op broadcasts
    it, where it `may_be_one`. Where N is 1, an op that does not broadcast has the
    observations there.
    """
    axis = rank_of(tensor) - places
    if axis < 0 or may_be_one and tensor.shape.as_list()[axis] == 1:
        return None
    return axis


def each(*rules):
    """One of `rules` for each input; the last one for all that follow."""

    def inputs(op, place, states, walk):
        return rules[min(place, len(rules) - 1)](op, place, states, walk)

    return inputs
