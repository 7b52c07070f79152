"""What is decided about products with vectors: whole Hessians, or a way for vectors."""

from batchhess import arguments
from batchhess.analysis.audit import audit_once, with_authors_gradient
from batchhess.analysis.partition import BILINEAR, NoPartitionError, kind_of
from batchhess.analysis.region import Region
from batchhess.compat import tf
from batchhess.ops.shapes import same_size
from batchhess.ops.sizes import Size
from batchhess.ops.states import BATCHED
from batchhess.passes import without_idle_sums
from batchhess.problem import times
from batchhess.rewriting import take_apart
from batchhess.tangent_planning import assert_can_be_pushed, block_of, way_to


def of_product(request, direction, layout, region):
    """The `Request` for products, or for whole Hessians where that is less work."""
    if request.method == "auto":
        count = _several(direction, region.x)
        known = isinstance(count, int) and isinstance(layout.size, int)
        # Of an author's own gradient a product is with the transpose.
        if not known or layout.size > count or with_authors_gradient(region):
            return request
    elif request.method != "symmetric":
        return request
    if arguments.are_several(direction, region.x):
        vectors = layout.flatten_each(direction)
    else:
        vectors = layout.flatten(direction)[:, None]
    return request._replace(wanted=times(vectors))


def _several(direction, x):
    """V, the vectors for each observation, if the graph tells; None where it is one."""
    if not arguments.are_several(direction, x):
        return None
    return direction.shape.as_list()[1]


def method_of_product(made, region):
    """The name of the method that a `Plan` for products takes, if it can."""
    request, count = made.request, _several(made.direction, made.x)
    if request.method != "auto":
        return request.method
    several = isinstance(count, int) and count > 1 and not request.per_output
    return "forward" if several and _multiplies(made, region) else "columns"


def _multiplies(made, region):
    """Whether each observation is proven to multiply matrices of its own.

    So small ones are multiplied faster for all vectors at once; others are not.
    """
    kinds = [kind_of(op, made.walk) for op in region.ops] if made.is_proven else []
    return BILINEAR in kinds


def with_way_of_vectors(made):
    """The `Plan` with the way of tangents from x to the gradient.

    Raises:
      NoPartitionError: they cannot go along it, or might lose a derivative.
    """
    if not made.is_proven:
        raise NoPartitionError(made.proof.op, made.proof.reason)
    count = _several(made.direction, made.x)
    if not count or made.request.per_output:
        why = "needs several vectors, [N, V, K], of known V, for a sum of outputs"
        raise NoPartitionError(None, why)
    x, walk, axis = made.x, made.walk, made.layout.axis
    behind = Region([made.gradient], x)
    wrong, found = audit_once(behind)
    doubtful = [op for _, op in wrong + found.faults] + found.unknown + found.guarded
    if doubtful:
        raise NoPartitionError(doubtful[0], "has a gradient that is not known")

    def alike(size, other):
        if size == other or not (isinstance(size, Size) and isinstance(other, Size)):
            return size == other
        state = walk.state(size.tensor)
        is_own = (state.kind, state.axis) == (BATCHED, size.axis)
        return is_own and same_size(size, other, state, walk)

    scope = tf.get_default_graph().get_name_scope() + "/"
    ours = [op for op in behind.ops if op.name.startswith(scope)]
    (gradient,) = without_idle_sums([made.gradient], ours, alike)
    (end,) = take_apart([gradient], x, made.stands_for)
    parts = way_to(end, x, walk, axis)
    assert_can_be_pushed(parts, Region([end], x))
    block = block_of(x, count, made.layout, parts, False)
    return made._replace(gradient=gradient, parts=([end], parts), block=block)
