"""What the plans of Jacobians and of products share: the way of tangents to an end."""

from batchhess.analysis import audit
from batchhess.analysis.partition import BILINEAR, GENERAL, NoPartitionError, partition
from batchhess.analysis.region import Region
from batchhess.methods.blocks import block_size

# With so few tangents those of all observations take no more than what the passes of a
# program written by hand hold, and a loop over blocks costs more than it saves: most of
# all where the answer is differentiated again.
FEW = 4

# Tangents that nothing reads again, as the curvatures of a Hessian do, need not stay in
# a processor's cache: so much larger blocks are faster by a third.
_WIDER = 4


def way_to(end, x, walk, axis):
    """The `Partition` from `x` to a Tensor that has the observations of x.

    Args:
      end: Tensor.
      x: a Tensor or Variable.
      walk: the `Walk` from `x`.
      axis: int, the observation axis of `x`.

    Raises:
      NoPartitionError: observations cannot be followed from one to the other.
    """
    found = partition(Region([end], x), [end], x, walk, axis)
    is_end = not found.behind and [t is end for t in found.frontier] == [True]
    if not (is_end and walk.state(end).is_own):
        op = found.behind[0] if found.behind else end.op
        raise NoPartitionError(op, "puts observations where they are not followed")
    return found


def assert_can_be_pushed(parts, region):
    """Raises NoPartitionError where the tangents of an op would be lost.

    Forward takes derivatives of gradients where an op is neither linear nor element by
    element.
    """
    for op in parts.ops:
        by_gradient = parts.kinds[op] in (GENERAL, BILINEAR)
        if by_gradient and not audit.can_be_followed(op, region.depends):
            raise NoPartitionError(op, "has a gradient whose derivative is not known")


def block_of(x, count, layout, parts, compiled):
    """The observations of a block for `count` tangents; None for all at once."""
    size = _WIDER * block_size(x, count, parts)
    if compiled:
        return size
    observations = layout.num_observations
    at_once = isinstance(observations, int) and observations <= size
    return None if at_once or count <= FEW else size
