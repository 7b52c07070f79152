"""The top of a graph, or the body of a loop or branch, being built again.

It knows no type of op: it copies them, one after another, each after those that it
needs. What is not to be copied has a builder of its own, which registers itself.
"""

import collections
import contextlib

from batchhess.analysis.frames import Frames
from batchhess.analysis.region import control_outputs, has_effect
from batchhess.analysis.values import value_region
from batchhess.compat import tf
from batchhess.graph.tensors import has_custom_gradient, tensor_key
from batchhess.ops.flow import bodies
from batchhess.ops.table import correction_of, declared
from batchhess.rebuild import built_by, copy_op, here

# build(scope, op): sets what stands for the outputs of `op`. needs(scope, op): the
# Tensors that it reads. controls(scope, op): the Operations that run before. waits:
# whether `build` itself sees to that, by `Scope.entering`.
Builder = collections.namedtuple("Builder", "build needs controls waits")


class NotBuiltError(Exception):
    """There is an `op` that cannot be built again, None if it is not known which."""

    def __init__(self, op=None):
        super().__init__(op)
        self.op = op


def register(*types, needs=None, controls=None, waits=False):
    """Decorates the function that builds ops of `types`.

    Args:
      *types: str, of ops.
      needs: as of `Builder`; the inputs of the op if it is left out.
      controls: as of `Builder`; the control inputs of the op if it is left out.
      waits: as of `Builder`.

    Returns:
      a decorator of a function of a `Scope` and an Operation.
    """

    def decorate(build):
        hooks = needs or _inputs, controls or _control_inputs
        builder = Builder(build, *hooks, waits)
        for type_ in types:
            assert type_ not in _BUILDERS, type_
            _BUILDERS[type_] = builder
        return build

    return decorate


def must_be_shared(op):
    """Whether to read what the original of `op` computes: it must not run again.

    What has a builder of its own minds the effects that it has.
    """
    return has_effect(op) and op.type not in _BUILDERS


def needs_of(scope, op):
    """The Tensors that must be there before `op` is built."""
    return _BUILDERS.get(op.type, _COPY).needs(scope, op)


def before(scope, op):
    """The ops that are built before `op`."""
    builder = _BUILDERS.get(op.type, _COPY)
    return [t.op for t in builder.needs(scope, op)] + builder.controls(scope, op)


def check_op(op):
    """Raises if `op` cannot be built again."""
    if declared(op).calls:
        if has_effect(op) or None in bodies(op) or not op.outputs:
            raise NotBuiltError(op)
        return
    attributes = op.node_def.attr.values()
    calls = any(a.HasField("func") or a.list.func for a in attributes)
    # A custom gradient may read what is left behind.
    if calls or must_be_shared(op) or has_custom_gradient(op):
        raise NotBuiltError(op)


class Scope:
    """What has been built, for a graph or a body of it."""

    def __init__(
        self,
        known,
        is_inside=lambda op: True,
        around=None,
        is_loop=False,
        entered=(),
        xs=(),
    ):
        """Of the top of a graph, if `around` is None, or of a body.

        Args:
          known: dict from the key of a Tensor to the Tensor that stands for it.
          is_inside: whether to build an op; what is not is read as it is.
          around: the `Scope` in which the op is whose body this is; None at the top.
          is_loop: bool, whether this may run more than once.
          entered: list of the Operations that must have run before any of this does.
          xs: list of the Tensors that what is built will be differentiated by.
        """
        self._known, self._is_inside = dict(known), is_inside
        self._around, self.is_loop = around, is_loop
        self._entered, self._xs = list(entered), list(xs)
        self._made, self._wanted, self._notes = {}, set(), {}
        self.frames = Frames()
        if around is not None:
            self._notes, self.frames = around._notes, around.frames

    def inner(self, known, entered, is_loop=None, is_inside=lambda op: True):
        """The `Scope` of a body: `known` are pairs of Tensors, the old and the new."""
        known = [(old, _of_shape(old, new)) for old, new in known]
        known = {tensor_key(old): new for old, new in known}
        is_loop = self.is_loop if is_loop is None else is_loop
        entered = self._entered + entered
        return Scope(known, is_inside, self, is_loop, entered)

    def entering(self, op, tensors):
        """What stands for `tensors`, which `op`, a loop, branch or call, takes in.

        A reference to a variable is read here, once and when the others are there. What
        must run before `op` runs before these: TensorFlow does not differentiate a loop
        that has control inputs itself.

        Returns:
          list of Tensors, and list of the Operations after which the body runs.
        """
        controls = _BUILDERS[op.type].controls(self, op)
        values, wait = [self.value(t) for t in tensors], self._resolved(controls)
        with self._waiting(wait):
            values = [tf.identity(v) if wait and is_number(v) else v for v in values]
        with self._waiting([v.op for v in values if not _is_reference(v)] + wait):
            values = [tf.identity(v) if _is_reference(v) else v for v in values]
        return values, wait + [v.op for v in values]

    def tensors(self, wanted, ops=()):
        """Builds the Tensors that stand for `wanted`, once `ops` have run."""
        ops = [op for op in ops if self._lacks_op(op)]
        ordered = self._in_order([t.op for t in wanted if self._lacks(t)] + ops)
        self._wanted = {tensor_key(t) for t in wanted}
        self._wanted |= {tensor_key(t) for op in ordered for t in needs_of(self, op)}
        for op in ordered:
            check_op(op)
            builder = _BUILDERS.get(op.type, _COPY)
            with self._after([] if builder.waits else builder.controls(self, op)):
                self._made[op] = builder.build(self, op)
        values = [self.value(t) for t in wanted]
        if not ops:
            return values
        with self._after(ops):
            return [tf.identity(value) for value in values]

    def outputs(self, graph, places):
        """Builds what stands for those outputs of a function's `graph`."""
        wanted = [graph.outputs[i] for i in places]
        # An assertion in the function runs though nothing reads it.
        return self.tensors(wanted, control_outputs(graph))

    def value(self, tensor):
        """What stands for `tensor`, once it is built."""
        if tensor_key(tensor) in self._known:
            return self._known[tensor_key(tensor)]
        if self._is_inside(tensor.op):
            raise NotBuiltError(tensor.op)
        return tensor if self._around is None else self._around.value(tensor)

    def corrected(self, op):
        """The outputs of `op`, in a form that TensorFlow differentiates rightly twice.

        Of an op in a body: what is at the top is corrected once all is built.
        """
        build = correction_of(op, _may_depend) if self._around is not None else None
        if build is None:
            return list(op.outputs)
        news = built_by(build, op)
        return news + list(op.outputs)[len(news) :]

    def moves(self, tensor):
        """Whether a `tensor` at the top depends on xs, by derivative or not."""
        return bool(value_region([tensor], self._xs))

    def set(self, tensor, value):
        self._known[tensor_key(tensor)] = _of_shape(tensor, value)

    def pairs(self):
        """Pairs of a Tensor of the model, and the one that stands for it here."""
        for (op, index), new in self._known.items():
            yield op.outputs[index], new

    def is_known(self, tensor):
        return tensor_key(tensor) in self._known

    def read(self, op):
        """The indices of the outputs of `op` that are read here.

        All, if it only runs before something else.
        """
        every = range(len(op.outputs))
        read = [i for i in every if tensor_key(op.outputs[i]) in self._wanted]
        return read or list(every)

    def unit(self, op, find):
        """find(self, op), found once: the loop or branches that `op` is an end of."""
        if op not in self._notes:
            self._notes[op] = find(self, op)
        return self._notes[op]

    def controls_of(self, op):
        """What stands for the control inputs of `op`: a list of Operations."""
        return self._resolved(op.control_inputs)

    def before_reading(self, op):
        """What must have run before `op` reads a state: a list of Operations.

        In the original all of a loop, branch or call waits for all that it takes in.
        """
        return self._entered + self._resolved(op.control_inputs)

    def _resolved(self, originals):
        return [c for c in map(self._made_of, originals) if c is not None]

    def _made_of(self, op):
        """What stands for `op` as a control input; None if that is there anyway."""
        if op.outputs and self.is_known(op.outputs[0]):
            value = self.value(op.outputs[0])
            return None if value.op.type == "Placeholder" else value.op
        if self._is_inside(op):
            return self._made.get(op)
        return op if self._around is None else self._around._made_of(op)

    def _after(self, originals):
        """Has what is built run after what stands for the ops `originals`."""
        return self._waiting(self._resolved(originals))

    @contextlib.contextmanager
    def _waiting(self, controls):
        if self.is_loop:  # All of it waits for what is outside.
            controls = [c for c in controls if c.graph is tf.get_default_graph()]
        if not controls:
            yield
            return
        with tf.control_dependencies(controls):
            yield

    def _lacks(self, tensor):
        return not self.is_known(tensor) and self._is_inside(tensor.op)

    def _lacks_op(self, op):
        if op.outputs and self.is_known(op.outputs[0]):
            return False
        return op not in self._made and self._is_inside(op)

    def _in_order(self, ops):
        """The ops to build for `ops`, each after those that it needs."""
        ordered, entered, pending = {}, set(), list(reversed(ops))
        while pending:
            op = pending[-1]
            missing = [] if op in ordered else self._missing(op)
            missing = [n for n in missing if n not in ordered]
            if not missing:
                ordered[pending.pop()] = None
            elif op in entered:
                raise NotBuiltError(op)  # It needs itself.
            else:
                entered.add(op)
                pending += missing
        return list(ordered)

    def _missing(self, op):
        builder = _BUILDERS.get(op.type, _COPY)
        missing = [t.op for t in builder.needs(self, op) if self._lacks(t)]
        return missing + [c for c in builder.controls(self, op) if self._lacks_op(c)]


def _may_depend(tensors):
    """Whether tensors in a body depend on x, which need not be known there."""
    return True


def _of_shape(tensor, value):
    """`value`, which stands for `tensor`, with all that is told of the shape of that.

    An author may have told more with set_shape than the ops do, and a loop is only
    built where what it carries keeps its shape.
    """
    if is_number(value) and value.dtype.base_dtype == tensor.dtype.base_dtype:
        value.set_shape(tensor.shape)
    return value


def _is_reference(value):
    return value.dtype != value.dtype.base_dtype


def is_number(value):
    return not _is_reference(value) and value.dtype not in (tf.resource, tf.variant)


def _inputs(scope, op):
    del scope
    return list(op.inputs)


def _control_inputs(scope, op):
    del scope
    return list(op.control_inputs)


def _copy(scope, op):
    """Copies an op that is neither a loop nor a branch nor of an array."""
    values = [scope.value(t) for t in op.inputs]
    for tensor, value in zip(op.inputs, values):
        if value.dtype.base_dtype != tensor.dtype.base_dtype:
            raise NotBuiltError(op)  # It reads the flow.
    lost = [_is_reference(t) > _is_reference(v) for t, v in zip(op.inputs, values)]
    if any(lost) and any(argument.is_ref for argument in op.op_def.input_arg):
        raise NotBuiltError(op)  # It changes a variable that was read here.
    # What is captured is read as it is, but axes and sizes that are known.
    values = [here(v) if v.dtype.is_integer else v for v in values]
    made = copy_op(op, values)
    for tensor, value in zip(op.outputs, scope.corrected(made)):
        scope.set(tensor, value)
    return made


_BUILDERS = {}

_COPY = Builder(_copy, _inputs, _control_inputs, False)
