"""The audit: reads the graph for second derivatives that TensorFlow gets wrong."""

import collections

from batchhess.analysis.region import (
    ancestors,
    bodies,
    depends,
    original,
    region,
)
from batchhess.compat import (
    control_flow_context,
    gradient_is_none,
    in_v1_while_loop,
    tf,
    where_built,
)
from batchhess.errors import SecondDerivativeError, UndefinedDerivativeError

# Only a loop's results and its carried values pass through these. Its Enter also brings
# in what a call inside the loop's body reads from outside, which is differentiable.
_V1_LOOP = frozenset(["Exit", "NextIteration", "RefExit", "RefNextIteration"])

# How the gradient of such a loop reads the loop's values: no edge leads back to them.
_STACK_POP = frozenset(["StackPop", "StackPopV2"])

# A way of being wrong. holds(op, x): whether `op`, of the region of x, is wrong so.
Fault = collections.namedtuple("Fault", ["types", "holds", "does", "cure"])


def check(caller, ys, gradient, x):
    """Refuses what TensorFlow is known to differentiate wrongly a second time.

    Args:
      caller: the public function's name.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys` with respect to `x`.
      x: a Tensor or Variable.

    Raises:
      SecondDerivativeError: with the op, its place, what TensorFlow does, and the cure.
    """
    _refuse(caller, find(ys, gradient, x), x)


def _refuse(caller, found, x):
    for fault, op in found:
        op = original(op)
        raise SecondDerivativeError(
            "{}: the second derivative with respect to '{}' is wrong in TensorFlow at "
            "'{}' ({}){}: it {}, in tf.hessians too. {}".format(
                caller,
                x.name,
                op.name,
                op.type,
                where_built(op),
                fault.does,
                fault.cure,
            )
        )


def find(ys, gradient, x):
    """Lists the faults of the region of `x`, with the op of each.

    Args:
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys` with respect to `x`.
      x: a Tensor or Variable.

    Returns:
      list of (`Fault`, Operation).
    """
    found = _loops(ys, gradient, x)
    found += [
        (_LOST, op)
        for op, _ in _region_and_bodies([gradient], x)
        if gradient_is_none(op)
    ]
    for op, local_x in _region_and_bodies(ys, x):
        for fault in _FAULTS:
            if op.type in fault.types and fault.holds(op, local_x):
                found.append((fault, op))
    return found


def guards(caller, ys, x):
    """Builds checks for what TensorFlow gets wrong at some values only.

    Args:
      caller: the public function's name.
      ys: list of Tensors.
      x: a Tensor or Variable.

    Returns:
      list of Operations that fail with InvalidArgumentError where a product over an
      axis, or the first factor of xlogy, has a zero.
    """
    return [
        tf.debugging.Assert(
            tf.reduce_all(tf.not_equal(op.inputs[0], 0)),
            [
                "{}: {} ({}) has a zero among its inputs, where TensorFlow's second "
                "derivative is wrong. {}".format(
                    caller, op.name, op.type, _WRONG_AT_ZERO[op.type]
                )
            ],
        )
        for op in region(ys, x)
        if op.type in _WRONG_AT_ZERO and depends([op.inputs[0]], x)
    ]


def check_values(caller, ys, gradient, x):
    """Refuses where values of the gradient on a moved `x` are not what they should be.

    Those are v1 while loops, which cannot be built again, and means that are stopped,
    which would stay where they are. Arguments and errors as for `check`.
    """
    found = find(ys, gradient, x)
    _refuse(
        caller, [(f, op) for f, op in found if f is _LOOP or f.holds is is_moments], x
    )


def not_rebuilt(caller, gradient, x):
    """The error for a gradient that cannot be built again on a moved `x`."""
    return SecondDerivativeError(
        "{}: '{}' cannot be built again on a moved '{}', which must be a Tensor, not "
        "read inside a function, branch or loop. Call "
        "tf.compat.v1.enable_control_flow_v2() before the model is built, and use "
        "method='columns'.".format(caller, gradient.name, x.name)
    )


def lost(caller, what, ys, x):
    """The error for a None of tf.gradients although `ys` depend on `x`.

    Args:
      caller: the public function's name.
      what: str, which derivative.
      ys: list of Tensors.
      x: a Tensor or Variable.

    Returns:
      a SecondDerivativeError that names the ops without a gradient, nearest `x`.
    """
    culprits = [original(op) for op in region(ys, x) if gradient_is_none(op)][-3:]
    names = ", ".join("'{}' ({})".format(op.name, op.type) for op in culprits)
    return SecondDerivativeError(
        "{}: the {} with respect to '{}' is lost {}. TensorFlow answers None there, "
        "although '{}' depends on '{}': it is not zero. {}".format(
            caller,
            what,
            x.name,
            "at " + names if names else "on the way",
            ys[0].name,
            x.name,
            _LOST.cure,
        )
    )


def undefined(caller, error):
    """The error for a LookupError or TypeError of tf.gradients.

    A KeyError or IndexError, which are LookupErrors too, is of a user's own gradient.

    Args:
      caller: the public function's name.
      error: what tf.gradients raised, which names the op.

    Returns:
      an UndefinedDerivativeError; None if `error` is of another kind.
    """
    known = type(error) is LookupError or "IndexedSlices" in str(error)
    if not known and "while loops" not in str(error):
        return None
    return UndefinedDerivativeError(
        "{}: TensorFlow cannot differentiate a part of the model again: {} Write that "
        "part with other ops, or pass method='differences', which takes differences of "
        "the gradient.".format(caller, str(error).rstrip(". ") + ".")
    )


def _region_and_bodies(ys, x):
    """The ops of the region, those inside functions included, each with its own x."""
    for op in region(ys, x):
        yield op, x
        skipped = 1 if op.type.endswith(("If", "Case")) else 0  # What chooses.
        arguments = list(op.inputs)[skipped:]
        # No derivative passes the condition of a loop.
        for graph in bodies(op)[1 if op.type in _LOOPS else 0 :]:
            for argument, local_x in zip(arguments, graph.inputs if graph else ()):
                # What a loop carries may come to depend on x in its second step.
                if op.type in _LOOPS or depends([argument], x):
                    yield from _region_and_bodies(list(graph.outputs), local_x)


_LOOPS = ("While", "StatelessWhile")


def _loops(ys, gradient, x):
    loops = [op for op in region(ys, x) if op.type in _V1_LOOP]
    if not loops:
        return []
    reads_values = any(op.type in _STACK_POP for op in ancestors([gradient], x))
    reads_results = any(op.type in _V1_LOOP for op in region([gradient], x))
    loops.sort(key=lambda op: op.type not in ("Exit", "RefExit"))  # Results first.
    return [(_LOOP, loops[0])] if reads_values or reads_results else []


_LOOP = Fault(
    _V1_LOOP,
    None,
    "leaves out what goes through a while loop of control flow v1",
    "Call tf.compat.v1.enable_control_flow_v2() before the loop is built, or build it "
    "inside a tf.function.",
)

_LOST = Fault(
    (),
    None,
    "leaves this op out, whose gradient it takes for None",
    "Write that part of the graph with ops that TensorFlow differentiates twice, or "
    "declare it constant with tf.stop_gradient.",
)

_WRONG_AT_ZERO = {
    "Prod": "Write the product of the factors one by one.",
    "Cumprod": "Write the products of the factors one by one.",
    "Xlogy": "Write x * tf.math.log(y), and keep y from zero.",
    "Xlog1py": "Write x * tf.math.log1p(y), and keep y from -1.",
}


def is_moments(op, x):
    """tf.nn.moments: the mean of squares around a stopped mean of the same tensor."""
    stop = op.inputs[1].op
    if stop.type != "StopGradient" or stop.inputs[0].op.type != "Mean":
        return False
    mean = stop.inputs[0].op
    return mean.inputs[0] is op.inputs[0] and depends([op.inputs[0]], x)


def labels_depend(op, x):
    return depends([op.inputs[1]], x)


def _shape_parameters_depend(op, x):
    return depends(list(op.inputs[:2]), x)


def _trains_inside_v1_loop(op, x):
    del x
    return op.get_attr("is_training") and in_v1_while_loop()


def _cannot_be_guarded(op, x):
    """Inside a function or a v1 cond there is no reading of the op's input."""
    if not depends([op.inputs[0]], x):
        return False
    inside_function = op.graph is not tf.get_default_graph()
    return inside_function or control_flow_context(op) is not None


_FAULTS = [
    Fault(
        ("SquaredDifference",),
        is_moments,
        "holds the mean constant, as tf.nn.moments tells it to, which is right for the "
        "first derivative of the variance but not for the second",
        "Use tf.math.reduce_variance, or tf.reduce_mean(tf.square(y - mean)).",
    ),
    Fault(
        ("SoftmaxCrossEntropyWithLogits",),
        labels_depend,
        "drops the derivative by labels and logits, and the labels depend on x",
        "Use -tf.reduce_sum(labels * tf.nn.log_softmax(logits), -1), or "
        "tf.stop_gradient(labels).",
    ),
    Fault(
        ("Betainc",),
        _shape_parameters_depend,
        "takes the gradient by a and b for None",
        "Declare a and b constant with tf.stop_gradient.",
    ),
    Fault(
        ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
        _trains_inside_v1_loop,
        "loses a part when it is differentiated inside a while loop of control flow v1",
        "Build the Hessian outside of the loop, or call "
        "tf.compat.v1.enable_control_flow_v2() first.",
    ),
    Fault(
        tuple(_WRONG_AT_ZERO),
        _cannot_be_guarded,
        "is wrong where a factor is zero, which cannot be checked inside a function or "
        "a branch",
        "Build this op outside of it.",
    ),
]
