"""Copies parts of the graph onto other inputs."""

import contextlib
import weakref

from batchhess.analysis.region import can_be_copied
from batchhess.analysis.values import value_region
from batchhess.compat import (
    differentiate_alike,
    in_v1_while_loop,
    know_function_of,
    static_value,
    tf,
)
from batchhess.graph.tensors import note_copies, tensor_key
from batchhess.ops.inputs import SHAPE
from batchhess.ops.sizes import shape_of


def stand_for(stands_for, old, new):
    """Adds to `stands_for` that `new` has the value of `old`, where both can be read.

    Args:
      stands_for: dict from the key of a Tensor that was built to the caller's own.
      old: Tensor, which may stand for another.
      new: Tensor.
    """
    old = stands_for.get(tensor_key(old), old)
    ranks = {old.shape.ndims, new.shape.ndims} - {None}
    if new is not old and len(ranks) < 2 and old.dtype == new.dtype:
        stands_for[tensor_key(new)] = old


def rebuild(ys, olds, news, for_values=False, stands_for=None):
    """Builds `ys` again, with `news` in the places of `olds`.

    What depends on the value of `olds` is copied, whether a derivative passes it or
    not. What only depends on their sizes is shared.

    Args:
      ys: list of Tensors of one graph, which is the default graph or around it.
      olds: list of Tensors of that graph, none computed from another.
      news: list of Tensors of the default graph, of the shapes and dtypes of `olds`.
      for_values: bool, whether the copy will not be differentiated. Else what has a
        custom gradient cannot be copied: it may be a function of what the original
        reads.
      stands_for: dict as of `stand_for`, to which what is built is added, if `news`
        have the values of `olds`.

    Returns:
      list of Tensors: `ys` as they would be if the model had been written with `news`;
      those that do not depend on `olds` are the same Tensors. None if a part of the
      model is inside a function or branch, where it cannot be copied, if it must not
      happen twice (a random draw from what depends on `olds`), or if one of `olds` is a
      Variable.
    """
    if in_v1_while_loop():
        return None
    built = {}
    for old, new in zip(olds, news):
        if not isinstance(old, tf.Tensor):
            return None  # What reads a Variable reads it by another name.
        built[tensor_key(old)] = new
    ops = value_region(ys, olds)
    if any(not can_be_copied(op, ys[0].graph, for_values) for op in ops):
        return None
    inside, wanted = set(ops), [y for y in ys if tensor_key(y) not in built]
    wanted = [y for y in wanted if y.op in inside]
    replaced = {
        (op, place): built[tensor_key(tensor)]
        for op in ops
        for place, tensor in enumerate(op.inputs)
        if tensor_key(tensor) in built
    }
    copies = dict(zip(ops, copies_of(ops, replaced, keep_shapes=True)))
    built.update({tensor_key(y): copies[y.op].outputs[y.value_index] for y in wanted})
    for op in ops if stands_for is not None else []:
        for old, new in zip(op.outputs, copies[op].outputs):
            stand_for(stands_for, old, new)
    return [built.get(tensor_key(y), y) for y in ys]


def rewrite(ys, ops, form_of):
    """Builds `ys` again with some ops in another form, in one walk from x to `ys`.

    Args:
      ys: list of Tensors of the default graph.
      ops: list of all Operations through which x can reach `ys` by value.
      form_of: function from an Operation, or its copy, and a function from a copy to
        what it is of, to a function that builds the op in another form: from the
        Operation to a list of Tensors, in the places of its first outputs. None for an
        op that stays as it is.

    Returns:
      list of Tensors, and a dict from the key of each Tensor that was built again to
      what now stands for it. What cannot be copied, and all that it is computed from,
      stays as it is.
    """
    graph = tf.get_default_graph()
    fixed = {op for op in ops if not can_be_copied(op, graph, False)}
    plain = dict.fromkeys(op for op in ops if op not in fixed)
    held = _above(fixed, plain)
    built, original_of = {}, {}

    def needs(op):
        return [t.op for t in op.inputs if t.op in plain]

    for op in in_order(list(plain), needs):
        now, inputs = op, [built.get(tensor_key(t), t) for t in op.inputs]
        if any(a is not b for a, b in zip(inputs, op.inputs)):
            with tf.name_scope("rebuilt"):
                # What it waits for is the original's, which is none of its inputs.
                now = copy_op(op, inputs, op.control_inputs)
            outputs = _of_shapes(op.outputs, now.outputs)
            built.update(zip(map(tensor_key, op.outputs), outputs))
            original_of.update(zip(map(tensor_key, outputs), op.outputs))
        form = None if op in held else form_of(now, original_of)
        if form is not None:
            outputs = _of_shapes(op.outputs, built_by(form, now))
            built.update(zip(map(tensor_key, op.outputs), outputs))
    return [built.get(tensor_key(y), y) for y in ys], built


def _of_shapes(olds, news):
    """The list `news`, with what the graph tells of the shapes of `olds`."""
    for old, new in zip(olds, news):
        new.set_shape(old.shape)
    return list(news)


def built_by(form, op):
    """What `form` builds instead of `op`: a list of Tensors.

    For errors, which name what the user has built, it counts as copies of `op`.
    """
    with tf.name_scope("rebuilt") as scope:
        news = form(op)
    made, pending = {}, [t.op for t in news]
    while pending:
        new = pending.pop()
        if new not in made and new.name.startswith(scope):
            made[new] = op
            pending += [t.op for t in new.inputs]
    note_copies(made.values(), made)
    return news


def _above(ops, among):
    """Those of `among` that one of `ops` is computed from, or waits for."""
    found, pending = set(), list(ops)
    while pending:
        op = pending.pop()
        for parent in [t.op for t in op.inputs] + list(op.control_inputs):
            if parent in among and parent not in found:
                found.add(parent)
                pending.append(parent)
    return found


def copy(ops, replaced, wanted, keep_shapes=False):
    """Builds `ops` again in the default graph.

    What must run before an op must run before its copy: the original, or the copy of it
    if it is one of `ops`.

    Args:
      ops: list of Operations of one graph, which is the default graph or around it;
        none of them is part of a loop of control flow v1.
      replaced: dict from (Operation, place of the input) to the Tensor to read there.
        Other inputs are read from the copies, else from where the originals read.
      wanted: list of Tensors that `ops` compute.
      keep_shapes: bool, whether the copies have the shapes of the originals. Where
        sizes are read from around, the graph may tell less of them.

    Returns:
      list of Tensors, the copies of `wanted`.
    """
    inside, copies, read_here = set(ops), {}, {}

    def read(op, place, tensor):
        tensor = replaced.get((op, place), tensor)
        if (op, place) not in replaced and tensor.op in inside:
            return copies[tensor.op].outputs[tensor.value_index]
        if tensor_key(tensor) not in read_here:
            read_here[tensor_key(tensor)] = here(tensor)
        return read_here[tensor_key(tensor)]

    def needs(op):
        inputs = [t.op for i, t in enumerate(op.inputs) if (op, i) not in replaced]
        return [n for n in inputs + list(op.control_inputs) if n in inside]

    with tf.name_scope("rebuilt"):
        for op in in_order(ops, needs):
            inputs = [read(op, place, tensor) for place, tensor in enumerate(op.inputs)]
            controls = [copies.get(c, c) for c in op.control_inputs]
            copies[op] = copy_op(op, inputs, controls)
            if keep_shapes:
                _of_shapes(op.outputs, copies[op].outputs)
    return [copies[tensor.op].outputs[tensor.value_index] for tensor in wanted]


# Colocation is with the original. The ops of one scope of XLA are one program, and 1.15
# crashes where some of them are in a loop.
_OF_ORIGINAL = "_class", "_output_shapes", "_XlaCompile", "_XlaScope"


def copy_op(op, inputs, controls=()):
    """Builds `op` again in the default graph, on its device.

    Args:
      op: an Operation.
      inputs: list of Tensors of the default graph, or around it, to read instead.
      controls: list of Operations that run before.

    Returns:
      an Operation.
    """
    attributes = {
        name: value
        for name, value in op.node_def.attr.items()
        if name not in _OF_ORIGINAL
    }
    know_function_of(op)
    with contextlib.ExitStack() as scopes:
        if controls:
            scopes.enter_context(tf.control_dependencies(controls))
        if op.device:
            scopes.enter_context(tf.device(op.device))
        made = tf.get_default_graph().create_op(
            op.type,
            inputs,
            [t.dtype for t in op.outputs],
            input_types=[t.dtype for t in op.inputs],
            name=op.name.rpartition("/")[2],
            attrs=attributes,
            op_def=op.op_def,
        )
    differentiate_alike(made, op)
    note_copies([op], [made])
    _COPIES.add(made)
    return made


_COPIES = weakref.WeakSet()


def is_copy(op):
    """Whether `op` was built by `copy_op`: it computes what another op does."""
    return op in _COPIES


def in_order(ops, needs):
    """`ops`, each after those of them that `needs` tells for it."""
    ordered, entered, pending = {}, set(), list(reversed(ops))
    while pending:
        op = pending[-1]
        missing = [] if op in ordered else [n for n in needs(op) if n not in ordered]
        if not missing:
            ordered[pending.pop()] = None
        elif op in entered:
            raise ValueError("'{}' ({}) is part of a loop.".format(op.name, op.type))
        else:
            entered.add(op)
            pending += missing
    return list(ordered)


def copies_of(ops, replaced, keep_shapes=False):
    """As `copy`, but answers the copies of `ops`."""
    if not ops:
        return []
    outputs = [next(iter(op.outputs)) for op in ops]
    return [tensor.op for tensor in copy(ops, replaced, outputs, keep_shapes)]


def here(tensor):
    """`tensor`, which may be of a graph around the default graph, to be read here."""
    if tensor.graph is tf.get_default_graph():
        return tensor
    value = static_value(tensor) if tensor.dtype.is_integer else None
    if value is not None and value.size < 1000:
        return tf.constant(value, tensor.dtype)  # XLA needs to know axes and shapes.
    # A function's graph captures what it reads, once.
    return tf.identity(tensor)


def on_observations(ops, parts, values, pick, count):
    """What `copy` must replace for `ops` to act on other observations.

    Args:
      ops: list of Operations before the frontier.
      parts: the `Partition` that they are of.
      values: dict from the key of a Tensor to the Tensor to read in its place.
      pick: function from a Tensor that does not depend on x, and the `State` that it
        has beside the others, to that Tensor with the other observations.
      count: int or scalar int32 Tensor, the number of the other observations.

    Returns:
      dict as `copy` takes it.
    """
    replaced = {}
    for op in ops:
        for place, state in enumerate(parts.alignments[op]):
            tensor = op.inputs[place]
            if tensor_key(tensor) in values:
                replaced[op, place] = values[tensor_key(tensor)]
            elif state is SHAPE:
                output = op.outputs[0]
                replaced[op, place] = shape_with(
                    output, parts.state(output), count, tensor.dtype
                )
            elif state is not None and not parts.depends(tensor):
                replaced[op, place] = pick(tensor, state)
    return replaced


def shape_with(tensor, state, count, dtype=tf.int32):
    """The static shape of `tensor`, in that `State`, with `count` observations."""
    return packed(sizes_with(tensor, state, count), dtype)


def sizes_with(tensor, state, count):
    """The same, as a list of ints and scalar Tensors."""
    shape = shape_of(tensor)
    shape[state.axis] = state.indices(count)
    return shape


def packed(sizes, dtype=tf.int32):
    """`sizes`, ints and scalar Tensors, as one Tensor."""
    if all(isinstance(size, int) for size in sizes):
        return tf.constant(sizes, dtype)
    return tf.cast(tf.stack(sizes), dtype)


def tile_along(tensor, axis, times):
    """`tensor`, of known rank, `times` after itself along `axis`."""
    multiples = [times if a == axis else 1 for a in range(tensor.shape.ndims)]
    return tf.tile(tensor, tf.stack(multiples))
