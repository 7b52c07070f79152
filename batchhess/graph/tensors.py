"""What identifies a tensor, and what became of an op."""

import functools
import operator
import weakref

from batchhess.compat import forward_op, tf, where_built


def tensor_key(tensor):
    """What identifies `tensor`: in 2.x Tensors compare by value, not identity."""
    return tensor.op, tensor.value_index


def is_handle(tensor):
    """Whether `tensor` is no number, but what a list or a variable is known by."""
    return tensor.dtype in (tf.variant, tf.resource)


def has_custom_gradient(op):
    """Whether TensorFlow differentiates `op` by a function of its author's own.

    Of a copy of `op` that is still a function of what the original reads.
    """
    try:
        named = op.get_attr("_gradient_op_type")
    except ValueError:
        return False
    return not named.startswith(OWN_GRADIENTS)


# The names of gradients that this library registers, which read only their own op.
OWN_GRADIENTS = b"Batchhess"


def has_own_gradient(op):
    """Whether `op` has been given its gradient here: else it were given for ever."""
    return op.node_def.attr["_gradient_op_type"].s.startswith(OWN_GRADIENTS)


def own_gradient(type_, name):
    """A context in which ops of `type_` get the gradient registered as `name`."""
    assert name.encode().startswith(OWN_GRADIENTS), name
    return tf.get_default_graph().gradient_override_map({type_: name})


def product_of(sizes):
    """The product of ints and scalar Tensors: an int where all are ints."""
    return functools.reduce(operator.mul, sizes, 1)


# From the op that reads a variable, or joins xs, to their names.
_KNOWN_AS = weakref.WeakKeyDictionary()


def note_name(tensor, name):
    """Keeps in mind that the user knows `tensor` by this name, for errors."""
    _KNOWN_AS[tensor.op] = name


def name_of(x):
    """The name by which the user knows a Tensor or Variable to differentiate by."""
    return _KNOWN_AS.get(x.op, x.name)


# From a copy to a weak reference to the op that it copies.
_COPIED_FROM = weakref.WeakKeyDictionary()


def note_copies(ops, copies):
    """Keeps in mind that `copies` are those of `ops`, for errors to name the latter."""
    for op, made in zip(ops, copies):
        _COPIED_FROM[made] = weakref.ref(op)


# From an op to a weak reference to the one that keeps it from being built again.
_HELD_BY = weakref.WeakKeyDictionary()


def note_held(ops, culprit):
    """Keeps in mind that `culprit` keeps `ops` from being built again, for errors."""
    for op in ops:
        _HELD_BY[op] = weakref.ref(culprit)


def held_by(op):
    """The op that keeps `op` from being built again, or None."""
    return _HELD_BY[op]() if op in _HELD_BY else None


def original(op):
    """The op of the user's model of which `op` is a copy; `op` itself if it is none."""
    while op in _COPIED_FROM and _COPIED_FROM[op]() is not None:
        op = _COPIED_FROM[op]()
    return op


def placed(op, quote="'"):
    """`op` as messages tell of it: its name, type, and the user's line that built it.

    An op of a derivative was built by no line of his: with the op that it is of. What
    fails in a run has no quotes: TensorFlow sets a backslash before each.
    """
    op = original(op)
    forward = original(forward_op(op))
    told = "{0}{1}{0} ({2})".format(quote, op.name, op.type)
    if forward is not op:
        of = "{0}{1}{0} ({2})".format(quote, forward.name, forward.type)
        told += ", in a derivative of {}".format(of)
    return told + where_built(forward)
