"""Any method, on one block of observations after another: memory for one block only."""

from batchhess.analysis import audit
from batchhess.calling import assert_that
from batchhess.compat import (
    captured_from,
    control_flow_context,
    differentiable_control_flow,
    tf,
    where,
)
from batchhess.copies import assert_same
from batchhess.graph.layout import Layout
from batchhess.graph.tensors import name_of, placed, product_of, tensor_key
from batchhess.ops.rows import empty_rows, write_row
from batchhess.ops.states import BATCHED, State
from batchhess.rebuild import (
    copies_of,
    copy,
    here,
    on_observations,
    shape_with,
    tile_along,
)
from batchhess.xla import compile_with_xla

# Blocks that may be worked on at a time.
_AT_A_TIME = 2

# The bytes that the tangents of one tensor may take: a processor's cache. Twice that,
# for less than a few observations.
CACHE, _FEW = 2 << 20, 16


def whole_batch(method, problem, parts, passes, check=True):
    """Lets `method` work on the model as it stands, on all observations at once.

    Nothing but single ops is copied, and no loop stands between the model and the
    answer.

    Args:
      method: function with the signature of `columns`.
      problem: a `Problem`.
      parts: the `Partition` of its ys.
      passes: the `Passes`.
      check: bool, as of `as_it_stands`.

    Returns:
      the method's answer, and the gradient as [N, K], which is computed anyway.
    """
    problem = problem._replace(partition=parts)
    with tf.control_dependencies(assert_one_or_all(problem)):
        gradient, adjoints = _adjoints(
            parts, problem.ys, problem.seeds, problem.x, passes
        )
        problem = problem._replace(adjoints=adjoints)
        found = as_it_stands(method, problem, passes, check)
    return found, problem.layout.flatten(gradient)


def by_parts(method, problem, passes, block, check):
    """What `method` answers of a `Problem` without gradient, by its partition.

    Args:
      method: function with the signature of `forward`.
      problem: a `Problem` with a partition.
      passes: the `Passes`.
      block: int, the observations to work on at a time; None for all at once.
      check: bool, as of `as_it_stands`.
    """
    if block is not None:
        return in_blocks(method, problem, passes, block)[0]
    with tf.control_dependencies(assert_one_or_all(problem)):
        return as_it_stands(method, problem, passes, check)


def as_it_stands(method, problem, passes, check=True):
    """What `method` answers for the model itself, which the caller may feed inside.

    Args:
      check: bool, whether to fail the run where an op that is built again has not the
        values of the original.
    """
    copied = []
    found = method(problem._replace(copied=copied), passes)
    if not (check and copied):
        return found
    same = assert_same(*zip(*copied), problem.x, in_parts=True)
    with tf.control_dependencies([same]):
        return tf.identity(found)


def _adjoints(parts, ys, seeds, x, passes):
    """The gradient by `x`, if it is not None, and by what lies between.

    Returns:
      a Tensor or None; and a dict from the key of each Tensor that the ops of `parts`
      compute from x to the gradient by it, or None where ys are not computed from it.

    Raises:
      SecondDerivativeError: TensorFlow answers None for another.
    """
    between = [t for op in parts.ops for t in op.outputs if parts.depends(t)]
    xs = [] if x is None else [x]
    found = passes.gradients(ys, xs + between, seeds)
    adjoints = dict(zip(map(tensor_key, between), found[len(xs) :]))
    read = {tensor_key(t) for op in parts.ops for t in op.inputs}
    read |= {tensor_key(t) for t in parts.frontier}
    for tensor in between:
        if adjoints[tensor_key(tensor)] is None and tensor_key(tensor) in read:
            raise audit.lost("gradient", ys, tensor)
    return (found[0] if xs else None), adjoints


def at_frontier(problem, parts, passes):
    """The same `Problem`, with `ys` at the frontier of the partition `parts`.

    Behind it all is linear: the seeds of the frontier do not depend on its values, and
    are found at zeros, for which nothing of the model has to be run.
    """
    ends = parts.frontier
    points = {tensor_key(t): _zeros(t, parts.state(t), problem.layout) for t in ends}
    replaced = {
        (op, place): points[tensor_key(tensor)]
        for op in parts.behind
        for place, tensor in enumerate(op.inputs)
        if tensor_key(tensor) in points
    }
    if any(control_flow_context(op) or op.op_def.is_stateful for op in parts.behind):
        seeds = passes.gradients(problem.ys, ends, problem.seeds)
    else:
        # What does not depend on x, such as a penalty on weights, stands as it is.
        behind = set(parts.behind)
        computed = {tensor_key(y): y for y in problem.ys if y.op in behind}
        values = list(computed.values())
        copies = copy(parts.behind, replaced, values) if values else []
        moved = dict(zip(computed, copies))
        moved.update(points)
        ys = [moved.get(tensor_key(y), y) for y in problem.ys]
        seeds = passes.gradients(ys, list(points.values()), problem.seeds)
    reached = [(t, seed) for t, seed in zip(ends, seeds) if seed is not None]
    ends, seeds = [t for t, _ in reached], [seed for _, seed in reached]
    return problem._replace(
        ys=ends, seeds=seeds, partition=parts._replace(frontier=ends)
    )


def _zeros(tensor, state, layout):
    if state.kind == BATCHED:
        shape = shape_with(tensor, state, layout.num_observations)
        return tf.zeros(shape, tensor.dtype)
    known = tensor.shape.is_fully_defined()
    return tf.zeros(tensor.shape, tensor.dtype) if known else tf.zeros_like(tensor)


def block_size(x, size, parts):
    """The observations whose `size` tangents of the widest tensor fill the cache."""
    item = x.dtype.base_dtype.size
    each = max(1, size * widest(x, parts) * item)
    # What is done once for a block is done for some observations at least.
    return max(1, CACHE // each, min(_FEW, 2 * CACHE // each))


def widest(x, parts):
    """The most elements that an observation has in `x` and what follows from it."""
    widths = [1]
    for tensor in [x] + [t for op in parts.ops for t in op.outputs]:
        if parts.is_batched(tensor):
            widths.append(parts.places(tensor) or 1)
    return max(widths)


def in_blocks(method, problem, passes, size_of_block, with_gradient=False):
    """Builds the model again on a block of x, and lets `method` work there.

    The last block is filled up with the last observation, whose rows are dropped.

    Args:
      method: function with the signature of `columns`.
      problem: a `Problem` with a partition.
      passes: the `Passes`.
      size_of_block: int, the observations of a block.
      with_gradient: bool, whether to answer the gradient of each block too, which is
        computed anyway.

    Returns:
      a list of the method's answer for all N, and a Tensor [N, K] if `with_gradient`.
    """
    layout, dtype = problem.layout, problem.x.dtype.base_dtype
    count = layout.num_observations
    block = size_of_block  # A program of XLA is for one size of block alone.
    blocks = (count + block - 1) // block
    if not passes.jit_compile:
        blocks = _without_rest(count, blocks)
        block = (count + blocks - 1) // blocks
    with tf.control_dependencies(assert_one_or_all(problem)):
        blocks = tf.identity(blocks)

    shapes = [problem.shape] + ([[layout.size]] if with_gradient else [])

    def one_block(b, *answers):
        build = _on_block(method, problem, passes, b * block, block, with_gradient)
        parts = _compiled(build) if passes.jit_compile else build()
        rows = [write_row(a, b, part) for a, part in zip(answers, parts)]
        with tf.control_dependencies(_reads_from_around()):
            return [b + 1] + rows

    with differentiable_control_flow():
        _, *answers = tf.while_loop(
            lambda b, *_: b * block < count,
            one_block,
            [tf.constant(0)]
            + [
                empty_rows(blocks, block * product_of(shape), dtype) for shape in shapes
            ],
            parallel_iterations=passes.parallel_iterations or _AT_A_TIME,
            swap_memory=passes.swap_memory,
        )
    return [
        tf.reshape(rows, tf.stack([blocks * block] + shape))[:count]
        for rows, shape in zip(answers, shapes)
    ]


def _without_rest(count, blocks):
    """A number of blocks, up to a quarter more, that divides `count`; or `blocks`.

    To drop the rows of a block that was filled up, TensorFlow copies all the result.
    """
    some = tf.maximum(blocks, 1)
    candidates = tf.range(some, some + some // 4 + 1)
    divides = tf.equal(count % candidates, 0)
    return candidates[tf.argmax(tf.cast(divides, tf.int32))]


def assert_one_or_all(problem):
    """Builds the check that what is taken along with x has 1 or N observations.

    With N = 1 TensorFlow broadcasts x itself against more: then a Hessian is a sum over
    these, which blocks do not see.
    """
    parts, count = problem.partition, problem.layout.num_observations
    boundary = {
        (tensor_key(tensor), state): tensor
        for op in parts.ops
        for tensor, state in parts.boundary(op)
        if isinstance(state, State)
    }
    pairs = [
        (tf.shape(tensor)[state.axis], state.indices(count))
        for (_, state), tensor in boundary.items()
        if tensor.shape.as_list()[state.axis] not in (1, state.indices(count))
    ]
    if not pairs:
        return []
    sizes, counts = (tf.stack(each) for each in zip(*pairs))
    fits = tf.logical_or(tf.equal(sizes, 1), tf.equal(sizes, counts))
    message = (
        "{} is broadcast against other numbers of observations. Feed as many of each, "
        "or pass method=columns, without jit_compile, which adds them up. Its own, and "
        "theirs:"
    ).format(name_of(problem.x))
    return [assert_that(tf.reduce_all(fits), message, count, sizes)]


class _Reader:
    """Reads the `count` observations from `start`, at the end the last one again."""

    def __init__(self, start, count, num_observations):
        self._start, self._count = start, count
        self._number = tf.minimum(count, num_observations - start)
        self._taken = {}

    def take(self, tensor, state, broadcast=True):
        """The part of `tensor`; where `broadcast` allows one for all, that repeated."""
        key = tensor_key(tensor), state
        if key not in self._taken:
            self._taken[key] = self._read(tensor, state, broadcast)
        return self._taken[key]

    def _read(self, tensor, state, broadcast):
        axis, each = state.axis, state.each
        begin, number, size = map(
            state.indices, (self._start, self._number, self._count)
        )
        repeated = each
        if broadcast and tensor.shape.as_list()[axis] in (None, 1):
            one = tf.equal(tf.shape(tensor)[axis], 1)
            begin, number = where(one, 0, begin), where(one, 1, number)
            repeated = where(one, 1, each) if each > 1 else 1
        rank = tensor.shape.ndims
        part = tf.slice(
            tensor,
            tf.stack([begin if a == axis else 0 for a in range(rank)]),
            tf.stack([number if a == axis else -1 for a in range(rank)]),
        )
        last = part[(slice(None),) * axis + (slice(-repeated, None),)]
        times = size - number if each == 1 else (size - number) // repeated
        part = tf.concat([part, tile_along(last, axis, times)], axis)
        shape = tensor.shape.as_list()
        shape[axis] = size if isinstance(size, int) else None
        part.set_shape(shape)
        return part

    def own(self, tensor, state):
        """The part of a Tensor in that `State`, all of it if it is not BATCHED."""
        if state.kind != BATCHED:
            return tensor
        return self.take(tensor, state, broadcast=False)


def _on_block(method, problem, passes, start, count, with_gradient):
    """What builds `method` on the `count` observations from `start`, read here."""
    axis, parts = problem.layout.axis, problem.partition
    reader = _Reader(start, count, problem.layout.num_observations)
    block = reader.own(problem.x, parts.state(problem.x))
    values = {tensor_key(problem.x): block}
    replaced = on_observations(parts.ops, parts, values, reader.take, count)
    states = [parts.state(t) for t in parts.frontier]
    weighing = zip(problem.seeds or [], states)
    seeds = [reader.own(seed, state) for seed, state in weighing]
    vectors = problem.vectors
    if vectors is not None:
        vectors = reader.own(vectors, parts.state(problem.x)._replace(axis=0))

    def build():
        x, weights = tf.identity(block), [here(seed) for seed in seeds]
        onto = {place: x if t is block else t for place, t in replaced.items()}
        here_parts = parts.onto(problem.x, x, copies_of(parts.ops, onto))
        ys, layout = here_parts.frontier, Layout(x, axis)
        part = problem._replace(ys=ys, x=x, layout=layout, partition=here_parts)
        if vectors is not None:
            part = part._replace(vectors=here(vectors))
        if problem.outputs is None:
            gradient, adjoints = _adjoints(here_parts, ys, weights, x, passes)
            part = part._replace(seeds=weights, gradient=gradient, adjoints=adjoints)
        answers = [method(part, passes)]
        return answers + ([layout.flatten(gradient)] if with_gradient else [])

    return build


def _reads_from_around():
    """The ops of a loop's body that read one tensor from outside of it, and no others.

    TensorFlow's optimizer takes such an op away unless another waits for it. It then
    gathers the terms of (h + b) + (g + b), and lets the factor 2 of b wait for the end
    of the loop: "Retval[0] does not have value" (TensorFlow 1.15 to 2.21).
    """
    return [
        op
        for op in tf.get_default_graph().get_operations()
        if len(op.inputs) == 1 and captured_from(op.inputs[0]) is not None
    ]


def _compiled(build):
    answer, lacking = compile_with_xla(build)
    if lacking:
        raise ValueError(
            "jit_compile=True, and XLA cannot compile {}. Leave it out, or write that "
            "part of the model with other ops.".format(
                ", ".join(dict.fromkeys(placed(op) for op in lacking)),
            )
        )
    return answer
