"""Checks that what is built again has the values of the model, in this very run.

What is fed into the middle of a model is seen by what reads it, and not by a copy of
what it was fed for. The values at the end need not tell: h and -h have the same square.
So each op is done once more on what it reads in this run, and must answer the same.
Where nothing is fed TensorFlow's optimizer finds that both are one, and does it once.
"""

from batchhess.analysis.region import Region, can_be_copied
from batchhess.analysis.values import value_region
from batchhess.calling import assert_each
from batchhess.compat import source_tensor, tf, where_built
from batchhess.copies import CANCELLED, assert_same, other_method
from batchhess.graph.tensors import is_handle, name_of, tensor_key
from batchhess.ops.table import (
    PASSED,
    SCALED,
    YES,
    declared,
    is_affine,
    is_of_flow,
)
from batchhess.rebuild import copy_op, in_order, is_copy


def same_values(made):
    """The checks that what is built again has the values of the model in this run.

    Each op that has a copy must answer what it has answered. What is no copy, such as a
    loop anew or a corrected op, must have the value of what it stands for.

    Args:
      made: a `Plan`, or a `JacobianPlan`.

    Returns:
      list of Operations, which fail with InvalidArgumentError.
    """
    request, parts, stands_for = made.request, made.parts, made.stands_for
    if request.check == "never" or made.is_linear:
        return []
    ys = [request.stands_for.get(tensor_key(y), y) for y in request.ys]
    is_built = made.block is not None or stands_for or made.is_moved
    if not is_built and all(a is b for a, b in zip(ys, made.ys)):
        return []
    xs = request.sources or request.xs
    model = _between(ys, xs)
    rows = parts[1].of_each() if parts else made.walk.of_each(made.ys)
    rows = [stands_for.get(tensor_key(t), t) for t in rows]
    in_parts, checks = parts is not None, []
    if not {t.op for t in rows} <= set(model):
        rows = ys
        same = assert_same(ys, made.ys, made.x, in_parts)
        checks = [] if same is None else [same]
    # Behind what is not linear a value changes no second derivative, but for factors.
    behind = set(Region(ys, xs).ops) - set(Region(rows, []).above)
    before = dict.fromkeys(op for op in model if op not in behind)
    moving = _moving(ys, xs)
    doubled = set(model) if made.is_moved else set()
    if made.block is not None:
        doubled.update(parts[1].ops)
    read, others = _replaced(made, before, moving, doubled)
    graph = tf.get_default_graph()
    doubled = [
        op
        for op in before
        if op in doubled and can_be_copied(op, graph, for_values=True)
    ]
    again = _done_again(doubled, moving, made.is_moved)
    checks += assert_equal(again + read, made.x, in_parts)
    # A loop has a copy, which is compared as a whole; a form of what is done again not.
    done = {op for op in doubled if made.is_moved or not declared(op).calls}
    others = [pair for pair, skipped in others if not skipped <= done]
    if others:
        checks.append(assert_same(*zip(*others), made.x, in_parts, made.walk))
    return checks


def _replaced(made, before, moving, doubled):
    """What stands for a Tensor of the model, and is not computed by a copy of its op.

    Args:
      made: a `Plan`, or a `JacobianPlan`.
      before: dict of the Operations of the model that are of concern.
      moving: set of the keys of the Tensors that depend on x.
      doubled: set of the Operations that are to be done again, to which those are added
        that something else stands for.

    Returns:
      list of pairs of what the model has read of a variable, and had read before; and
      of pairs of what is computed in another way, each with the ops that it is computed
      instead of: where these answer once more what they have answered, so does it.
    """
    ys, found = made.parts[0] if made.parts else made.ys, ([], [])
    used = set(_between(ys, [made.x]))
    for (op, index), old in made.stands_for.items():
        doubled.add(old.op)
        is_another = op.type != old.op.type or declared(op).calls or not is_copy(op)
        if op in used and old.op in before and is_another and not is_handle(old):
            new = op.outputs[index]
            if declared(op).tangents == PASSED and _reads_variable(old.op):
                found[0].append((old, new))
                continue
            skipped = _skipped(new, old, moving, made.stands_for)
            doubled.update(skipped)
            found[1].append(((old, new), skipped))
    return found


def _skipped(new, old, moving, stands_for):
    """The ops of the model that compute `old` from what `new` is computed from.

    Args:
      new: Tensor that stands for `old`.
      old: Tensor of the model.
      moving: set of the keys of the Tensors of the model that depend on x.
      stands_for: dict as of a `Plan`.
    """
    read, seen, todo = set(), {new.op}, [new.op]
    while todo:
        for t in todo.pop().inputs:
            key = tensor_key(stands_for.get(tensor_key(t), t))
            if key in moving:
                read.add(key)
            elif t.op not in seen:
                seen.add(t.op)
                todo.append(t.op)
    found, todo = {old.op}, [old.op]
    while todo:
        op = todo.pop()
        # A loop is compared as a whole: what is inside cannot be done again by itself.
        for t in [] if is_of_flow(op) else op.inputs:
            key = tensor_key(t)
            if key in moving and key not in read and t.op not in found:
                found.add(t.op)
                todo.append(t.op)
    return found


def _reads_variable(op):
    is_reference = any(t.dtype != t.dtype.base_dtype for t in op.inputs)
    return declared(op).reads or is_reference


def assert_equal(pairs, x, in_parts=False):
    """Builds the check that the Tensors of each pair are equal, to the last bits.

    Args:
      pairs: list of pairs of Tensors: one of the model, and what is computed for it.
      x: the Tensor or Variable that the model is differentiated by, for errors.
      in_parts: bool, whether another method builds less again, for errors.

    Returns:
      list of Operations, which fail with InvalidArgumentError.
    """
    if not pairs:
        return []
    messages = [_message(a, x, in_parts) for a, _ in pairs]
    compared = [(_comparable(a), _comparable(b)) for a, b in pairs]

    def nearly():
        near = tf.stack([_is_near(a, b) for a, b in compared])
        with tf.control_dependencies([assert_each(near, messages)]):
            return tf.constant(True)

    return [tf.cond(_are_equal(compared), lambda: tf.constant(True), nearly).op]


def _between(ys, xs):
    """The ops between `xs` and `ys` by value, those included that only tell sizes."""
    sources = [source_tensor(x) for x in xs]
    return value_region(ys, sources, shared=lambda op: False)


def _moving(ys, xs):
    """The keys of the Tensors between `xs` and `ys` whose values depend on these."""
    sources = [source_tensor(x) for x in xs]
    found = {tensor_key(t) for op in value_region(ys, sources) for t in op.outputs}
    return found.union(map(tensor_key, sources))


def _done_again(ops, moving, with_calls):
    """Pairs of what was computed, and what its op answers for the same inputs.

    Linear ops that follow each other are done again in one, since what is fed between
    them, and changes neither their end nor a factor, changes no derivative.

    Args:
      ops: list of Operations that can be copied.
      moving: set of the keys of the Tensors that depend on x.
      with_calls: bool, whether loops and other calls of functions are done again too.
    """
    inside = set(ops)

    def needs(op):
        before = [t.op for t in op.inputs] + list(op.control_inputs)
        return [other for other in before if other in inside]

    read, ends = {tensor_key(t) for op in ops for t in op.inputs}, set()
    for op in ops:
        ends.update(map(tensor_key, _bending(op, moving)))
    pairs, again = [], {}
    for op in in_order(ops, needs):
        if declared(op).calls and not with_calls:
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


def _bending(op, moving):
    """The inputs and outputs of `op` whose values are in its derivative by x."""
    places = [
        i
        for i, t in enumerate(op.inputs)
        # A condition, or an index, that depends on x is a factor like any other.
        if tensor_key(t) in moving and (t.dtype.is_floating or t.dtype.is_complex)
    ]
    if is_affine(op, places):
        return [t for i, t in enumerate(op.inputs) if i not in places]
    return list(op.inputs) + list(op.outputs)


# Of what 1.15 does not compare: numbers of the same size that it does.
_ALIKE = {tf.uint16: tf.int16, tf.uint32: tf.int32, tf.uint64: tf.int64}


def _comparable(tensor):
    kind = _ALIKE.get(tensor.dtype.base_dtype)
    return tensor if kind is None else tf.bitcast(tensor, kind)


def _are_equal(pairs):
    """Whether all pairs are equal and finite to the bit: a bool Tensor []."""
    equal, gaps = [], {}
    for a, b in pairs:
        is_float = a.dtype.base_dtype in (tf.float32, tf.float64)
        # TensorFlow makes a + b of a - -b, whether or not another is fed for -b.
        is_sign = declared(a.op).linear == YES and declared(a.op).tangents == SCALED
        if is_float and not is_sign:
            # A fifth of the time that comparing takes. Squares would underflow.
            gap = tf.reduce_sum(tf.abs(a - b))
            gaps.setdefault(a.dtype.base_dtype, []).append(gap)
        else:
            equal.append(tf.reduce_all(tf.equal(a, b)))
    equal += [tf.reduce_all(tf.equal(tf.stack(each), 0)) for each in gaps.values()]
    return tf.reduce_all(tf.stack(equal))


def _is_near(a, b):
    """Whether they are in each element equal to rounding, or NaN: a bool Tensor [].

    What was computed in another run, and is fed, may differ in its last bits.
    """
    same, dtype = tf.equal(a, b), a.dtype.base_dtype.real_dtype
    if dtype.name not in CANCELLED:
        return tf.reduce_all(same)
    missing = tf.is_nan(tf.abs(a)) & tf.is_nan(tf.abs(b))
    # Infinity is less than no other: it is the same, or it is not near.
    near = tf.abs(a - b) < CANCELLED[dtype.name] * tf.maximum(tf.abs(a), tf.abs(b))
    return tf.reduce_all(same | missing | near)


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
