"""Any method, on one block of observations after another: memory for one block only."""

from batchhess.analysis.observation_axis import ROWS, SUM
from batchhess.analysis.region import tensor_key
from batchhess.analysis.sizes import shape_of
from batchhess.compat import (
    control_flow_context,
    differentiable_control_flow,
    empty_rows,
    tf,
    write_row,
)
from batchhess.layout import Layout, product
from batchhess.rebuild import copy, on_observations, shape_with

# Blocks that may be worked on at a time.
_AT_A_TIME = 2

# The bytes that the tangents of one tensor may take: a processor's cache.
_CACHE = 2 << 20


def at_frontier(problem, parts, passes):
    """The same `Problem`, with `ys` at the frontier of the partition `parts`.

    Behind it all is linear: the seeds of the frontier do not depend on its values, and
    are found at zeros, for which nothing of the model has to be run.
    """
    ends = parts.frontier
    points = {tensor_key(t): _zeros(t, parts.state_of(t), problem.layout) for t in ends}
    replaced = {
        (op, place): points[tensor_key(tensor)]
        for op in parts.behind
        for place, tensor in enumerate(op.inputs)
        if tensor_key(tensor) in points
    }
    if any(control_flow_context(op) or op.op_def.is_stateful for op in parts.behind):
        seeds = passes.gradients(problem.ys, ends, problem.seeds)
    else:
        computed = [y for y in problem.ys if tensor_key(y) not in points]
        copies = iter(copy(parts.behind, replaced, computed) if computed else ())
        ys = [
            points[tensor_key(y)] if tensor_key(y) in points else next(copies)
            for y in problem.ys
        ]
        seeds = passes.gradients(ys, list(points.values()), problem.seeds)
    reached = [(t, seed) for t, seed in zip(ends, seeds) if seed is not None]
    ends, seeds = [t for t, _ in reached], [seed for _, seed in reached]
    return problem._replace(
        ys=ends, seeds=seeds, partition=parts._replace(frontier=ends)
    )


def _zeros(tensor, state, layout):
    if state.kind == ROWS:
        shape = shape_with(tensor, state.axis, layout.num_observations)
        return tf.zeros(shape, tensor.dtype)
    known = tensor.shape.is_fully_defined()
    return tf.zeros(tensor.shape, tensor.dtype) if known else tf.zeros_like(tensor)


def block_size(problem):
    """The observations whose tangents of the widest tensor fill the cache."""
    state_of, ops = problem.partition.state_of, problem.partition.ops
    widths = [1]
    for tensor in [problem.x] + [t for op in ops for t in op.outputs]:
        state = state_of(tensor)
        if state.kind == ROWS:
            shape = shape_of(tensor)
            del shape[state.axis]
            widths += [] if None in shape else [product(shape)]
    item = problem.x.dtype.base_dtype.size
    return max(1, _CACHE // max(1, problem.layout.size * max(widths) * item))


def in_blocks(method, problem, passes, size_of_block):
    """Builds the model again on a block of x, and lets `method` work there.

    The last block is filled up with the last observation, whose rows are dropped.

    Args:
      method: function with the signature of `columns`.
      problem: a `Problem` with a partition.
      passes: the `Passes`.
      size_of_block: int, the observations of a block.

    Returns:
      a Tensor [N, K, K].
    """
    layout, x = problem.layout, problem.x
    count, size = layout.num_observations, layout.size
    block = tf.minimum(size_of_block, tf.maximum(count, 1))
    blocks = (count + block - 1) // block

    def one_block(b):
        index = tf.minimum(b * block + tf.range(block), count - 1)
        return method(_on_block(problem, passes, index), passes)  # [block, K, K]

    with differentiable_control_flow():
        _, rows = tf.while_loop(
            lambda b, _: b < blocks,
            lambda b, rows: (b + 1, write_row(rows, b, one_block(b))),
            (
                tf.constant(0),
                empty_rows(blocks, block * product([size, size]), x.dtype.base_dtype),
            ),
            parallel_iterations=passes.parallel_iterations or _AT_A_TIME,
            swap_memory=passes.swap_memory,
        )
    return tf.reshape(rows, [-1, size, size])[:count]


def _on_block(problem, passes, index):
    """The `Problem` of the observations at `index`."""
    x, axis, parts = problem.x, problem.layout.axis, problem.partition
    taken = {}

    def take(tensor, axis):
        key = tensor_key(tensor), axis
        if key not in taken:
            here = index
            if tensor.shape.as_list()[axis] in (None, 1):  # 1 is broadcast.
                here *= tf.cast(tf.not_equal(tf.shape(tensor)[axis], 1), here.dtype)
            taken[key] = tf.gather(tensor, here, axis=axis)
        return taken[key]

    block = tf.gather(x, index, axis=axis)
    replaced = on_observations(
        parts.ops, parts.state_of, {tensor_key(x): block}, take, tf.size(index)
    )
    behind = [t for t in parts.frontier if t is not x]
    copies = iter(copy(parts.ops, replaced, behind))
    ys = [block if t is x else next(copies) for t in parts.frontier]
    seeds = [
        seed if state.kind == SUM else take(seed, state.axis)
        for seed, state in zip(problem.seeds, map(parts.state_of, parts.frontier))
    ]
    return problem._replace(
        ys=ys,
        seeds=seeds,
        gradient=passes.gradient(ys, block, seeds),
        x=block,
        layout=Layout(block, axis),
        partition=None,
    )
