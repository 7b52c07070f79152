"""Loops and branches of control flow v1, built again as those of control flow v2.

A loop of one value a that reads one w from outside, and Exit of whose last value:

       a's start                                    w
           |                                        |
         Enter      (frame_name: the loop's)      Enter (is_constant)
           |                                        |
         Merge <------- NextIteration               |
           |                  ^                     |
           +--> condition     |                     |
           |        |         |                     |
           |     LoopCond     |                     |
           |        |         |                     |
         Switch <---+       body <------------------+
          |   |               ^
       0: |   +---------------+ :1
         Exit

There is one Enter, Merge, Switch and NextIteration for each value that is carried, one
Enter for each that is read, and one LoopCond. A branch is dataflow as well:

       w        predicate
       |            |
       +-> Switch <-+       one for each w that a branch reads
          0|   |1
      false    true         what has no input has a control input of this side
          0|   |1
           Merge            one for each result

Constants have no other way to the predicate than by those control inputs.
"""

import collections

from batchhess.analysis.frames import is_end_of_branches, predicate_of
from batchhess.compat import has_back_prop, raw_ops, tf
from batchhess.control_flow.scope import (
    NotBuiltError,
    before,
    is_number,
    must_be_shared,
    register,
)
from batchhess.graph.tensors import tensor_key

# Of a loop. switches: list of the Switch ops, one for each value that it carries.
# condition: the LoopCond op. enters: list of the Enter ops of what it reads outside.
# No op inside has a control input outside: TensorFlow does not run such a loop.
_Loop = collections.namedtuple("_Loop", "switches condition enters")

# Of two branches. predicate: Tensor. switches: list of the Switch ops that lead there.
# waits: list of the ops outside that ops inside have as control inputs. shared: list of
# the ops inside that must not run again: random draws, say.
_Cond = collections.namedtuple("_Cond", "predicate switches waits shared")

_ENTER = ("Enter", "RefEnter")
_SWITCH = ("Switch", "RefSwitch")


def _loop_needs(scope, op):
    loop = scope.unit(op, _find_loop)
    return [enter.inputs[0] for enter in _all_enters(loop)]


def _loop_controls(scope, op):
    loop = scope.unit(op, _find_loop)
    controls = [c for o in _all_enters(loop) + [op] for c in o.control_inputs]
    return list(dict.fromkeys(controls))


@register("Exit", "RefExit", needs=_loop_needs, controls=_loop_controls, waits=True)
def build_loop(scope, op):
    if scope.is_known(op.outputs[0]):
        return  # Built with another value that the loop carries.
    loop = scope.unit(op, _find_loop)
    values, entered = scope.entering(op, _loop_needs(scope, op))
    starts, read_outside = values[: len(loop.switches)], values[len(loop.switches) :]
    outside = list(zip([enter.outputs[0] for enter in loop.enters], read_outside))
    merges = [switch.inputs[0] for switch in loop.switches]

    def frame(read, values):
        known = outside + list(zip(read, values))
        return scope.inner(known, entered, True, _is_in_loop(scope, loop.condition))

    def condition(*values):
        return frame(merges, values).tensors(list(loop.condition.inputs))[0]

    def body(*values):
        read = [switch.outputs[1] for switch in loop.switches]
        carried = [merge.op.inputs[1].op.inputs[0] for merge in merges]
        return frame(read, values).tensors(carried)

    results = tf.while_loop(
        condition,
        body,
        starts,
        shape_invariants=[
            start.shape if start.dtype == tf.variant else merge.shape
            for start, merge in zip(starts, merges)
        ],
        parallel_iterations=_enter(loop.switches[0]).get_attr("parallel_iterations"),
        return_same_structure=True,
    )
    for switch, result in zip(loop.switches, results):
        if not has_back_prop(switch):
            result = tf.stop_gradient(result)
        for leaving in switch.outputs[0].consumers():
            if leaving.type in ("Exit", "RefExit"):
                scope.set(leaving.outputs[0], result)


def _cond_needs(scope, op):
    cond = scope.unit(op, _find_cond)
    return [cond.predicate] + [switch.inputs[0] for switch in cond.switches]


def _cond_controls(scope, op):
    cond = scope.unit(op, _find_cond)
    named = [switch.inputs[1].op for switch in cond.switches]
    gates = [op] + cond.switches + [o for o in named if o is not cond.predicate.op]
    controls = [c for gate in gates for c in gate.control_inputs]
    return list(dict.fromkeys(controls + cond.waits))


@register("Merge", "RefMerge", needs=_cond_needs, controls=_cond_controls, waits=True)
def build_cond(scope, op):
    cond = scope.unit(op, _find_cond)
    (predicate, *values), entered = scope.entering(op, _cond_needs(scope, op))
    shared = [pair for o in cond.shared for pair in _read_outside(scope, cond, o)]

    def branch(i):
        known = zip([switch.outputs[i] for switch in cond.switches], values)
        is_inside = _is_in_branches(scope, cond.predicate)
        inner = scope.inner(list(known) + shared, entered, is_inside=is_inside)
        return lambda: tf.identity(inner.tensors([op.inputs[i]])[0])

    result = tf.cond(predicate, branch(1), branch(0))
    if result.dtype == tf.variant:
        result.set_shape([])
    scope.set(op.outputs[0], result)


def _read_outside(scope, cond, op):
    """What `op`, in one of two branches, computes, to be read outside of them.

           op    0
            |    |
            |  Switch <- predicate
            |    | of the other side
            Merge

    Returns:
      list of pairs of Tensors, the outputs of `op` and what can be read wherever its
      branch is taken.
    """
    place, predicate = scope.frames.of(op), cond.predicate
    of_one = [(tensor_key(predicate), side) for side in (0, 1)]
    sides = [side for side, pair in enumerate(of_one) if place.branches == {pair}]
    is_here = op.graph is tf.get_default_graph()
    # A copy that chooses otherwise would read the 0.
    if place.frames or not sides or not is_here or scope.moves(predicate):
        raise NotBuiltError(op)
    pairs = []
    for tensor in op.outputs:
        if not is_number(tensor):
            raise NotBuiltError(op)
        zero = tf.zeros([], tensor.dtype)
        other = raw_ops.Switch(data=zero, pred=predicate)[1 - sides[0]]
        value = raw_ops.Merge(inputs=[tensor, other]).output
        pairs.append((tensor, value))
    return pairs


def _refuse(scope, op):
    raise NotBuiltError(op)


_PARTS = _ENTER + _SWITCH + ("LoopCond", "NextIteration", "RefNextIteration")


@register(*_PARTS, needs=_refuse)
def _part_of_a_loop(scope, op):
    raise NotBuiltError(op)


def _enter(switch):
    """The op by which the first value of what `switch` carries comes into the loop."""
    return switch.inputs[0].op.inputs[0].op


def _all_enters(loop):
    return [_enter(switch) for switch in loop.switches] + loop.enters


def _is_in_loop(scope, condition):
    """Whether an op is in the loop of the LoopCond op `condition`: a function."""
    frames = scope.frames.of(condition).frames
    return lambda op: scope.frames.of(op).frames[: len(frames)] == frames


def _is_in_branches(scope, predicate):
    """Whether an op is in a branch that `predicate` takes or not: a function."""
    either = {(tensor_key(predicate), taken) for taken in (0, 1)}
    return lambda op: bool(either & scope.frames.of(op).branches)


def _find_loop(scope, exit_op):
    first = exit_op.inputs[0].op
    condition = first.inputs[1].op
    name = _enter(first).get_attr("frame_name")
    is_inside = _is_in_loop(scope, condition)
    switches, enters, seen = [], [], set()
    pending = [condition.inputs[0].op, first]
    while pending:
        op = pending.pop()
        op = _carrying_switch(op, condition) or op
        if op in seen:
            continue
        seen.add(op)
        if op.type in _SWITCH and op.inputs[1].op is condition:
            switches.append(op)
            pending.append(op.inputs[0].op.inputs[1].op.inputs[0].op)
        elif op.type in _ENTER and op.get_attr("frame_name") == name:
            enters.append(op)
        elif is_inside(op):
            pending += before(scope, op)
    return _Loop(switches, condition, enters)


def _carrying_switch(op, condition):
    """The Switch of the value whose Merge is `op`; None if it is no such Merge."""
    if op.type not in ("Merge", "RefMerge") or is_end_of_branches(op):
        return None
    readers = [c for c in op.outputs[0].consumers() if c.type in _SWITCH]
    readers = [c for c in readers if c.inputs[1].op is condition]
    return readers[0] if readers else None


def _find_cond(scope, merge):
    predicate = scope.frames.predicate(merge) if is_end_of_branches(merge) else None
    if predicate is None:
        raise NotBuiltError(merge)
    is_inside = _is_in_branches(scope, predicate)
    switches, waits, shared, seen = [], [], [], set()
    pending = [t.op for t in merge.inputs]
    while pending:
        op = pending.pop()
        if op in seen:
            continue
        seen.add(op)
        is_switch = op.type in _SWITCH and op.inputs[1].op.type != "LoopCond"
        if is_switch and tensor_key(predicate_of(op)) == tensor_key(predicate):
            switches.append(op)
        elif not is_inside(op):
            waits.append(op)
        elif must_be_shared(op):
            shared.append(op)
        else:
            pending += before(scope, op)
    return _Cond(predicate, switches, waits, shared)
