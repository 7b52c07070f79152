"""Loops, branches, calls and TensorArrays, built again for a second differentiation.

TensorFlow differentiates a loop of control flow v1 once; the second time it answers
None without a word, or fails. The same loop of control flow v2 is differentiated
without end, but not any more once a Session has run it. So all are built anew: loops
and branches as those of control flow v2, calls of functions as what the functions hold.

What a v1 loop keeps in a TensorArray, its copy keeps in a list: a tensor that carries
the elements, in the place of the "flow" that only orders the operations on the array.
"""

import collections

from batchhess.analysis.region import region
from batchhess.compat import (
    control_flow_context,
    differentiable_control_flow,
    function_graph,
    has_back_prop,
    in_v1_while_loop,
    raw_ops,
    static_value,
    tf,
    v1_branch,
)
from batchhess.graph.tensors import has_custom_gradient, tensor_key
from batchhess.ops.table import all_declared
from batchhess.rebuild import copy

FUNCTIONS = {name: d.calls for name, d in all_declared().items() if d.calls}

# Of a v1 loop. switches: list of the Switch ops, one for each value that it carries.
# condition: the LoopCond op. enters: list of the Enter ops of what it reads outside.
_Loop = collections.namedtuple("_Loop", "switches condition enters")

# Of a v1 branch. predicate: Tensor. switches: list of the Switch ops of what it reads.
_Cond = collections.namedtuple("_Cond", "predicate switches")


class _NotBuiltError(Exception):
    """There is an op that cannot be built again."""


def rebuild_control_flow(ys, x):
    """Builds `ys` again with what controls the flow between `x` and them built anew.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor or Variable.

    Returns:
      list of Tensors of the same values; `ys` itself if there is nothing to build, or
      if it draws random numbers or has another effect, which a copy would have again.
    """
    ops = region(ys, x)
    graph = tf.get_default_graph()
    if not any(op.type in _REASONS or _is_array(op) for op in ops):
        return ys
    if in_v1_while_loop():  # A v2 loop in it could not be differentiated.
        return ys
    if any(y.graph is not graph or _is_inside_v1(y.op) for y in ys):
        return ys
    try:
        _check_all(ops, graph)
        inside = set(ops)
        with differentiable_control_flow():
            return _Scope({}, lambda op: op in inside or _is_array(op)).tensors(ys)
    except _NotBuiltError:
        return ys


class _Scope:
    """The top of a graph, the body of a loop or a branch, being built."""

    def __init__(self, known, is_inside=lambda op: True):
        self._known, self._is_inside = dict(known), is_inside
        self._units, self._wanted = {}, set()

    def tensors(self, wanted):
        """Builds the Tensors in the default graph that stand for `wanted`."""
        ops, batch = self._in_order(wanted), []
        self._wanted = {tensor_key(t) for t in wanted}
        self._wanted |= {tensor_key(t) for op in ops for t in op.inputs}
        for op in ops:
            build = _SPECIAL.get(op.type)
            if build is None:
                batch.append(op)
                continue
            self._copy(batch)
            batch = []
            build(self, op)
        self._copy(batch)
        return [self.value(t) for t in wanted]

    def value(self, tensor):
        """What stands for `tensor`, once it is built."""
        if tensor_key(tensor) in self._known:
            return self._known[tensor_key(tensor)]
        if self._is_inside(tensor.op):
            raise _NotBuiltError(tensor.op)
        return tensor

    def unit(self, op):
        """The `_Loop` that `op` leaves, or the `_Cond` that it ends."""
        if op not in self._units:
            self._units[op] = _loop_of(op) if op.type == "Exit" else _cond_of(op)
        return self._units[op]

    def set(self, tensor, value):
        self._known[tensor_key(tensor)] = value

    def _read(self, op):
        """The indices of the outputs of `op` that are read here."""
        return [i for i, t in enumerate(op.outputs) if tensor_key(t) in self._wanted]

    def is_known(self, tensor):
        return tensor_key(tensor) in self._known

    def _in_order(self, wanted):
        """The ops to build for `wanted`, each after those that it needs."""
        ordered, done, pending = [], set(), [(t.op, t) for t in reversed(wanted)]
        entered = set()
        while pending:
            op, tensor = pending[-1]
            if op in done or self.is_known(tensor) or not self._is_inside(op):
                pending.pop()
                continue
            needs = [t for t in self._needs(op) if t.op not in done]
            needs = [t for t in needs if not self.is_known(t) and self._is_inside(t.op)]
            if needs and op in entered:
                raise _NotBuiltError(op)  # It needs itself.
            if needs:
                entered.add(op)
                pending += [(t.op, t) for t in needs]
                continue
            pending.pop()
            done.add(op)
            ordered.append(op)
        return ordered

    def _needs(self, op):
        if op.type == "Exit":
            loop = self.unit(op)
            enters = [_enter(switch) for switch in loop.switches] + loop.enters
            return [enter.inputs[0] for enter in enters]
        if op.type == "Merge":
            cond = self.unit(op)
            return [cond.predicate] + [switch.inputs[0] for switch in cond.switches]
        if op.type in ("Enter", "Switch", "NextIteration", "LoopCond"):
            raise _NotBuiltError(op)
        return _values_of(op)

    def _copy(self, ops):
        """Copies `ops`, which are neither loops nor branches nor TensorArrays."""
        if not ops:
            return
        together, replaced = set(ops), {}
        for op in ops:
            for place, tensor in enumerate(op.inputs):
                if tensor.op not in together or self.is_known(tensor):
                    value = self.value(tensor)
                    if value.dtype.base_dtype != tensor.dtype.base_dtype:
                        raise _NotBuiltError(op)  # It reads the flow.
                    replaced[op, place] = value
        outputs = [t for op in ops for t in op.outputs]
        for tensor, value in zip(outputs, copy(ops, replaced, outputs)):
            value.set_shape(tensor.shape)
            self.set(tensor, value)

    # What is not copied as it is.

    def pass_on(self, op):
        self.set(op.outputs[0], self.value(op.inputs[0]))

    def build_loop(self, op):
        if self.is_known(op.outputs[0]):
            return  # Built with another value that the loop carries.
        loop = self.unit(op)
        outside = {
            tensor_key(enter.outputs[0]): self.value(enter.inputs[0])
            for enter in loop.enters
        }
        merges = [switch.inputs[0] for switch in loop.switches]

        def frame(read, values):
            known = dict(zip(map(tensor_key, read), values))
            return _Scope({**outside, **known})

        def condition(*values):
            return frame(merges, values).tensors(list(loop.condition.inputs))[0]

        def body(*values):
            read = [switch.outputs[1] for switch in loop.switches]
            carried = [merge.op.inputs[1].op.inputs[0] for merge in merges]
            return frame(read, values).tensors(carried)

        starts = [self.value(_enter(switch).inputs[0]) for switch in loop.switches]
        results = tf.while_loop(
            condition,
            body,
            starts,
            shape_invariants=[
                start.shape if start.dtype == tf.variant else merge.shape
                for start, merge in zip(starts, merges)
            ],
            parallel_iterations=_enter(loop.switches[0]).get_attr(
                "parallel_iterations"
            ),
            return_same_structure=True,
        )
        for switch, result in zip(loop.switches, results):
            if not has_back_prop(switch):
                result = tf.stop_gradient(result)
            for leaving in switch.outputs[0].consumers():
                if leaving.type == "Exit":
                    self.set(leaving.outputs[0], result)

    def build_cond(self, op):
        cond = self.unit(op)

        def branch(i):
            known = {
                tensor_key(switch.outputs[i]): self.value(switch.inputs[0])
                for switch in cond.switches
            }
            return lambda: tf.identity(_Scope(known).tensors([op.inputs[i]])[0])

        result = tf.cond(self.value(cond.predicate), branch(1), branch(0))
        result.set_shape(op.outputs[0].shape if result.dtype != tf.variant else [])
        self.set(op.outputs[0], result)

    def build_v2_loop(self, op):
        condition, body = function_graph(op, "cond"), function_graph(op, "body")
        carried = _carried(condition, body, self._read(op))
        starts = [self.value(t) for t in op.inputs]

        def frame(graph, values):
            # What the body hands on as it is need not be carried.
            known = dict(zip(map(tensor_key, graph.inputs), starts))
            for i, value in zip(carried, values):
                known[tensor_key(graph.inputs[i])] = value
            return _Scope(known)

        results = tf.while_loop(
            lambda *values: frame(condition, values).tensors(condition.outputs)[0],
            lambda *values: frame(body, values).tensors(
                [body.outputs[i] for i in carried]
            ),
            [starts[i] for i in carried],
            shape_invariants=[body.inputs[i].shape for i in carried],
            parallel_iterations=op.get_attr("parallel_iterations"),
            return_same_structure=True,
        )
        for output, value in zip(op.outputs, starts):
            self.set(output, value)
        for i, result in zip(carried, results):
            self.set(op.outputs[i], result)

    def build_v2_cond(self, op):
        predicate, *values = [self.value(t) for t in op.inputs]
        read = self._read(op)

        def branch(attribute):
            graph = function_graph(op, attribute)
            known = dict(zip(map(tensor_key, graph.inputs), values))
            wanted = [graph.outputs[i] for i in read]
            return lambda: [tf.identity(t) for t in _Scope(known).tensors(wanted)]

        results = tf.cond(predicate, branch("then_branch"), branch("else_branch"))
        results = results if isinstance(results, list) else [results]
        for i, result in zip(read, results):
            self.set(op.outputs[i], result)

    def inline(self, op):
        graph = function_graph(op, "f")
        known = zip(map(tensor_key, graph.inputs), [self.value(t) for t in op.inputs])
        read = self._read(op)
        results = _Scope(known).tensors([graph.outputs[i] for i in read])
        for i, result in zip(read, results):
            self.set(op.outputs[i], result)

    def build_list(self, op):
        shape = tf.TensorShape(op.get_attr("element_shape"))
        value = raw_ops.TensorListReserve(
            element_shape=_shape_tensor(shape),
            num_elements=self.value(op.inputs[0]),
            element_dtype=op.get_attr("dtype"),
        )
        self.set(op.outputs[1], value)

    def get_item(self, op):
        value = raw_ops.TensorListGetItem(
            input_handle=self._list(op),
            index=self.value(op.inputs[1]),
            element_shape=_shape_tensor(op.outputs[0].shape),
            element_dtype=op.get_attr("dtype"),
        )
        value.set_shape(op.outputs[0].shape)
        self.set(op.outputs[0], value)

    def set_item(self, op):
        index, item = (self.value(t) for t in op.inputs[1:3])
        value = raw_ops.TensorListSetItem(
            input_handle=self._list(op), index=index, item=item
        )
        self.set(op.outputs[0], value)

    def scatter(self, op):
        if op.inputs[3].op.type != "TensorArrayV3":
            raise _NotBuiltError(op)  # A new list would forget what was written before.
        indices, value = (self.value(t) for t in op.inputs[1:3])
        shape = _shape_tensor(op.inputs[2].shape[1:])
        if _is_in_order(op.inputs[1]):
            flow = raw_ops.TensorListFromTensor(tensor=value, element_shape=shape)
        else:
            flow = raw_ops.TensorListScatter(
                tensor=value, indices=indices, element_shape=shape
            )
        self.set(op.outputs[0], flow)

    def gather(self, op):
        options = {
            "input_handle": self._list(op),
            "element_shape": _shape_tensor(op.outputs[0].shape[1:]),
            "element_dtype": op.get_attr("dtype"),
        }
        if _is_in_order(op.inputs[1]):
            value = raw_ops.TensorListStack(**options)
        else:
            indices = self.value(op.inputs[1])
            value = raw_ops.TensorListGather(indices=indices, **options)
        value.set_shape(op.outputs[0].shape)
        self.set(op.outputs[0], value)

    def length(self, op):
        value = raw_ops.TensorListLength(input_handle=self._list(op))
        self.set(op.outputs[0], value)

    def _list(self, op):
        """The list in the place of the flow, which comes last."""
        value = self.value(op.inputs[-1])
        if value.dtype != tf.variant:
            raise _NotBuiltError(op)  # Written by a loop that does not depend on x.
        return value


_SPECIAL = {
    "Exit": _Scope.build_loop,
    "Identity": _Scope.pass_on,
    "If": _Scope.build_v2_cond,
    "Merge": _Scope.build_cond,
    "PartitionedCall": _Scope.inline,
    "StatefulPartitionedCall": _Scope.inline,
    "StatelessIf": _Scope.build_v2_cond,
    "StatelessWhile": _Scope.build_v2_loop,
    "While": _Scope.build_v2_loop,
    "TensorArrayGatherV3": _Scope.gather,
    "TensorArrayReadV3": _Scope.get_item,
    "TensorArrayScatterV3": _Scope.scatter,
    "TensorArraySizeV3": _Scope.length,
    "TensorArrayV3": _Scope.build_list,
    "TensorArrayWriteV3": _Scope.set_item,
}

# Whose first input is a TensorArray, which the flow stands for.
_OF_ARRAYS = frozenset(
    type_ for type_ in _SPECIAL if type_.startswith("TensorArray")
) - {"TensorArrayV3"}

# A v1 branch alone is differentiated without end.
_REASONS = frozenset(FUNCTIONS) | {"Exit"}

_STATE_THAT_STAYS = frozenset(_OF_ARRAYS | {"ReadVariableOp", "TensorArrayV3"})


def _is_array(op):
    return op.type == "TensorArrayV3" or op.type in _OF_ARRAYS


def _values_of(op):
    return list(op.inputs)[1:] if op.type in _OF_ARRAYS else list(op.inputs)


def _enter(switch):
    """The op by which the first value of what `switch` carries comes into the loop."""
    return switch.inputs[0].op.inputs[0].op


def _loop_of(exit_op):
    first = exit_op.inputs[0].op
    condition = first.inputs[1].op
    name = _enter(first).get_attr("frame_name")
    switches, enters, seen = [], [], set()
    pending = [condition.inputs[0], first.outputs[1]]
    while pending:
        tensor = pending.pop()
        op = tensor.op
        if op.type == "Merge" and op.inputs[1].op.type == "NextIteration":
            carrying = [c for c in op.outputs[0].consumers() if c.type == "Switch"]
            carrying = [c for c in carrying if c.inputs[1].op is condition]
            op = carrying[0] if carrying else op
        if op in seen:
            continue
        seen.add(op)
        if op.type == "Switch" and op.inputs[1].op is condition:
            switches.append(op)
            pending.append(op.inputs[0].op.inputs[1].op.inputs[0])
        elif op.type == "Enter" and op.get_attr("frame_name") == name:
            enters.append(op)
        else:
            pending += _values_of(op)
    return _Loop(switches, condition, enters)


def _cond_of(merge):
    branches = [v1_branch(t.op) for t in merge.inputs]
    if [taken for _, taken in branches] != [0, 1]:
        raise _NotBuiltError(merge)
    predicate = branches[0][0]
    switches, seen, pending = [], set(), list(merge.inputs)
    while pending:
        op = pending.pop().op
        if op in seen:
            continue
        seen.add(op)
        if op.type == "Switch" and tensor_key(op.inputs[1]) == tensor_key(predicate):
            switches.append(op)
        else:
            pending += _values_of(op)
    return _Cond(predicate, switches)


def _carried(condition, body, wanted):
    """The indices of what a v2 loop must carry for its `wanted` outputs.

    Those that only the gradient of an earlier differentiation reads are left out, and
    those that never change.
    """
    places = {tensor_key(t): i for i, t in enumerate(body.inputs)}
    needed, seen = set(wanted), set()
    first = {tensor_key(t): i for i, t in enumerate(condition.inputs)}
    needed |= {first[key] for key in _reached(condition.outputs, set()) if key in first}
    pending = list(needed)
    while pending:
        for key in _reached([body.outputs[pending.pop()]], seen):
            if key in places and places[key] not in needed:
                needed.add(places[key])
                pending.append(places[key])
    return [i for i in sorted(needed) if body.outputs[i] is not body.inputs[i]]


def _reached(tensors, seen):
    """The keys of `tensors` and of all that they are computed from, if not `seen`."""
    pending = [t for t in tensors if tensor_key(t) not in seen]
    seen.update(tensor_key(t) for t in pending)
    while pending:
        tensor = pending.pop()
        yield tensor_key(tensor)
        for parent in tensor.op.inputs:
            if tensor_key(parent) not in seen:
                seen.add(tensor_key(parent))
                pending.append(parent)


def _check_all(ops, graph):
    """Raises if one of `ops`, or of the ops inside them, cannot be built again."""
    seen, pending = set(ops), list(ops)
    while pending:
        op = pending.pop()
        _check(op, graph)
        for attribute in FUNCTIONS.get(op.type, ()):
            function = function_graph(op, attribute)
            if function is None:
                raise _NotBuiltError(op)
            inside = {key[0] for key in _reached(function.outputs, set())}
            _check_all([i for i in inside if i.type != "Placeholder"], function)
        for tensor in _values_of(op):
            # What a v1 loop or branch computes inside does not depend on x alone.
            if tensor.op not in seen and control_flow_context(tensor.op) is not None:
                seen.add(tensor.op)
                pending.append(tensor.op)


def _is_inside_v1(op):
    """Whether `op` is inside a loop or branch that cannot be left for another graph."""
    return op.type != "Exit" and control_flow_context(op) is not None


def _check(op, graph):
    """Raises if `op` cannot be built again."""
    if has_custom_gradient(op) and op.type not in FUNCTIONS:
        raise _NotBuiltError(op)  # A custom gradient may read what is left behind.
    functions = [k for k, attr in op.node_def.attr.items() if attr.HasField("func")]
    has_function = set(functions) != set(FUNCTIONS.get(op.type, ()))
    has_effect = op.op_def.is_stateful and op.type not in _STATE_THAT_STAYS
    has_effect = has_effect and op.type not in FUNCTIONS  # What they hold is checked.
    if op.graph is not graph or has_function or has_effect:
        raise _NotBuiltError(op)


def _is_in_order(indices):
    """Whether `indices` are 0, 1, ..., as of TensorArray.stack and unstack."""
    value = static_value(indices)
    if value is not None:
        return list(value) == list(range(len(value)))
    if indices.op.type != "Range":
        return False
    start, _, step = (static_value(t) for t in indices.op.inputs)
    return (start, step) == (0, 1)


def _shape_tensor(shape):
    """`shape` as the list ops take it, -1 for what is unknown."""
    if shape.ndims is None:
        return tf.constant(-1)
    return tf.constant([-1 if d is None else d for d in shape.as_list()], tf.int32)
