"""Loops, branches and calls of control flow v2, and the reading of variables in them.

These are ops that name functions. The same ones can be differentiated without end, but
not after a Session has run them. A call is built as what its function holds.
"""

import contextlib

from batchhess.analysis.region import control_outputs
from batchhess.compat import raw_ops, tf
from batchhess.control_flow.scope import register
from batchhess.ops.flow import bodies
from batchhess.rebuild import copy_op


@register("While", "StatelessWhile", waits=True)
def build_loop(scope, op):
    condition, body = bodies(op)
    carried = _carried(condition, body, scope.read(op))
    starts, entered = scope.entering(op, op.inputs)

    def frame(graph, values):
        # What the body hands on as it is need not be carried.
        known = list(starts)
        for i, value in zip(carried, values):
            known[i] = value
        return scope.inner(zip(graph.inputs, known), entered, is_loop=True)

    shapes = [body.inputs[i].shape for i in carried]

    def step(*values):
        handed = frame(body, values).outputs(body, carried)
        for value, shape in zip(handed, shapes):
            value.set_shape(shape)  # TensorFlow 1.15 forgets some.
        return handed

    results = tf.while_loop(
        lambda *values: frame(condition, values).outputs(condition, [0])[0],
        step,
        [starts[i] for i in carried],
        shape_invariants=shapes,
        parallel_iterations=op.get_attr("parallel_iterations"),
        return_same_structure=True,
    )
    for output, value in zip(op.outputs, starts):
        scope.set(output, value)
    for i, result in zip(carried, results):
        scope.set(op.outputs[i], result)


@register("If", "StatelessIf", "Case", "StatelessCase", waits=True)
def build_branches(scope, op):
    (chooses, *values), entered = scope.entering(op, op.inputs)
    read = scope.read(op)

    def branch(graph):
        def build():
            known = scope.inner(zip(graph.inputs, values), entered)
            return [tf.identity(t) for t in known.outputs(graph, read)]

        return build

    branches = [branch(graph) for graph in bodies(op)]
    if op.type.endswith("If"):
        results = tf.cond(chooses, *branches)
    else:
        results = tf.switch_case(chooses, branches)
    results = results if isinstance(results, (list, tuple)) else [results]
    for i, result in zip(read, results):
        scope.set(op.outputs[i], result)


@register("PartitionedCall", "StatefulPartitionedCall", waits=True)
def build_call(scope, op):
    (graph,) = bodies(op)
    read = scope.read(op)
    values, entered = scope.entering(op, op.inputs)
    results = scope.inner(zip(graph.inputs, values), entered).outputs(graph, read)
    for i, result in zip(read, results):
        scope.set(op.outputs[i], result)


@register("ReadVariableOp")
def read_variable(scope, op):
    """Reads a variable once for all steps of a loop, in which nothing is assigned."""
    with _before_steps(scope, op, scope.is_loop) as handle:
        made = copy_op(op, [handle])
    scope.set(op.outputs[0], made.outputs[0])


@register("ResourceGather", "ResourceGatherNd")
def gather_from_variable(scope, op):
    """Rows of a variable that is read outside: inside, 1.15 does not know its shape."""
    with _before_steps(scope, op, True) as handle:
        params = raw_ops.ReadVariableOp(resource=handle, dtype=op.get_attr("dtype"))
    indices = scope.value(op.inputs[1])
    if op.type == "ResourceGatherNd":
        rows = tf.gather_nd(params, indices)
    else:
        batch = op.get_attr("batch_dims")
        rows = tf.gather(params, indices, axis=batch, batch_dims=batch)
    scope.set(op.outputs[0], scope.corrected(rows.op)[0])


@contextlib.contextmanager
def _before_steps(scope, op, is_outside):
    """The handle that `op` reads a variable by, and a context to read it in."""
    handle = scope.value(op.inputs[0])
    graph, controls = tf.get_default_graph(), scope.before_reading(op)
    with contextlib.ExitStack() as place:
        if is_outside and handle.graph is not graph:
            controls = [c for c in controls if c.graph is handle.graph]
            place.enter_context(handle.graph.as_default())
        place.enter_context(tf.control_dependencies(controls))
        yield handle


@register("Identity")
def pass_on(scope, op):
    value = scope.value(op.inputs[0])
    scope.set(op.outputs[0], tf.identity(value) if scope.controls_of(op) else value)


def _carried(condition, body, wanted):
    """The indices of what a loop must carry for its `wanted` outputs.

    Those that only the gradient of an earlier differentiation reads are left out, and
    those that never change.
    """
    places = {t.op: i for i, t in enumerate(body.inputs)}
    first = {t.op: i for i, t in enumerate(condition.inputs)}
    needed, seen = set(wanted), set()
    needed |= {first[op] for op in _above(_ends(condition, [0]), set()) if op in first}
    needed |= {places[op] for op in _above(_ends(body), seen) if op in places}
    pending = list(needed)
    while pending:
        for op in _above([body.outputs[pending.pop()].op], seen):
            if op in places and places[op] not in needed:
                needed.add(places[op])
                pending.append(places[op])
    return [i for i in sorted(needed) if body.outputs[i] is not body.inputs[i]]


def _ends(graph, outputs=()):
    """The ops that compute those `outputs` of a function, and what runs anyway."""
    return [graph.outputs[i].op for i in outputs] + control_outputs(graph)


def _above(ops, seen):
    """`ops` and all that they are computed from or wait for, if not `seen`."""
    pending = [op for op in ops if op not in seen]
    seen.update(pending)
    while pending:
        op = pending.pop()
        yield op
        for parent in [t.op for t in op.inputs] + list(op.control_inputs):
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
