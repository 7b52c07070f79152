"""A check that nothing was fed where a part of the model was built again.

What is fed into the middle of a model is seen by what reads it, and not by a copy of
what it was fed for. The values at the end need not tell: h and -h have the same square.
So each op is done once more on what it reads in this run, and must answer the same.
Where nothing is fed TensorFlow's optimizer finds that both are one, and does it once.
"""

from batchhess.analysis.region import can_be_copied
from batchhess.calling import assert_that
from batchhess.compat import tf, where_built
from batchhess.copies import ROUNDING, other_method, unless_equal
from batchhess.graph.tensors import is_handle, name_of, tensor_key
from batchhess.ops.table import IN_EACH, NO, declared, linearity
from batchhess.rebuild import copy_op, in_order


def assert_unfed(ops, x, in_parts):
    """Builds the check that each of `ops` answers what it has answered.

    Args:
      ops: list of Operations between x and f. Nothing is told of those that cannot be
        done twice, or call functions.
      x: the Tensor or Variable that the model is differentiated by.
      in_parts: bool, whether another method builds less again, for errors.

    Returns:
      list of Operations, which fail with InvalidArgumentError.
    """
    inside = set(ops)

    def needs(op):
        before = [t.op for t in op.inputs] + list(op.control_inputs)
        return [other for other in before if other in inside]

    pairs = _done_again(in_order(ops, needs), x)
    if not pairs:
        return []

    def told():
        return [assert_that(_is_same(a, b), _message(a, x, in_parts)) for a, b in pairs]

    return [unless_equal(pairs, told).op]


def _done_again(ops, x):
    """Pairs of what was computed, and what its op answers for the same inputs.

    Only of what a derivative reads, at the ends of what is linear: what is fed into the
    middle of that, and changes no end of it, changes no second derivative.
    """
    moving = {tensor_key(x)} if isinstance(x, tf.Tensor) else set()
    moving.update(tensor_key(t) for op in ops for t in op.outputs)
    bent = [op for op in ops if not _is_linear(op, moving)]
    read = {tensor_key(t) for op in ops for t in op.inputs}
    ends = {tensor_key(t) for op in bent for t in op.inputs}
    ends |= {tensor_key(t) for op in bent for t in op.outputs}
    pairs, again = [], {}
    for op in ops:
        is_plain = can_be_copied(op, tf.get_default_graph(), for_values=True)
        if not is_plain or declared(op).calls:
            continue
        inputs = [again.get(tensor_key(t), t) for t in op.inputs]
        with tf.name_scope("again"):
            made = copy_op(op, inputs, op.control_inputs)
        for old in declared(op).written(op):
            new = made.outputs[old.value_index]
            if tensor_key(old) in read and tensor_key(old) not in ends:
                again[tensor_key(old)] = new
            elif not is_handle(old):
                pairs.append((old, new))
    return pairs


def _is_linear(op, moving):
    rule = linearity(op)
    if rule == IN_EACH:
        return sum(tensor_key(t) in moving for t in op.inputs) < 2
    return rule != NO


def _is_same(a, b):
    """Whether they are in each element equal to rounding, or NaN: a bool Tensor [].

    What was computed in another run, and is fed, may differ in its last bits.
    """
    same, dtype = tf.equal(a, b), a.dtype.base_dtype.real_dtype
    if dtype.name not in ROUNDING:
        return tf.reduce_all(same)
    sizes = tf.abs(a), tf.abs(b)
    missing = tf.is_nan(sizes[0]) & tf.is_nan(sizes[1])
    allowed = ROUNDING[dtype.name] * tf.maximum(*sizes)
    return tf.reduce_all(same | missing | (tf.abs(a - b) <= allowed))


def _message(tensor, x, in_parts):
    return (
        "'{}' ({}){} is not what is computed for it: an inner tensor of the model was "
        "fed, which a part that was built again does not see. Feed {} and what the "
        "model reads from outside only, {}or differentiate by the tensor that is fed. "
        "Or a variable was assigned in the same run: run the training step in a "
        "Session.run of its own.".format(
            tensor.name,
            tensor.op.type,
            where_built(tensor.op),
            name_of(x),
            other_method(in_parts),
        )
    )
