"""The audit: reads the graph for second derivatives that TensorFlow loses."""

from batchhess.analysis.region import ancestors, region
from batchhess.compat import gradient_is_missing
from batchhess.errors import SecondDerivativeError

# Only a loop's results and its carried values pass through these. Its Enter also brings
# in what a call inside the loop's body reads from outside, which is differentiable.
_V1_LOOP = frozenset(["Exit", "NextIteration", "RefExit", "RefNextIteration"])

# How the gradient of such a loop reads the loop's values: no edge leads back to them.
_STACK_POP = frozenset(["StackPop", "StackPopV2"])


def check_loops(caller, ys, gradient, x):
    """Refuses a second derivative that goes through a control flow v1 while loop.

    The gradient of such a loop cannot be differentiated. TensorFlow says so for some
    loops; for others it answers None, or what is left without the loop's part.

    Args:
      caller: the public function's name.
      ys: list of Tensors.
      gradient: Tensor, the gradient of `ys` with respect to `x`.
      x: a Tensor or Variable.

    Raises:
      SecondDerivativeError: the gradient through such a loop may depend on `x`.
    """
    loops = [op for op in region(ys, x) if op.type in _V1_LOOP]
    if not loops:
        return
    reads_values = any(op.type in _STACK_POP for op in ancestors([gradient], x))
    reads_results = any(op.type in _V1_LOOP for op in region([gradient], x))
    if reads_values or reads_results:
        raise SecondDerivativeError(
            "{}: the second derivative with respect to '{}' goes through a while loop "
            "of control flow v1, at {}. TensorFlow leaves that part out (tf.hessians "
            "too). Call tf.compat.v1.enable_control_flow_v2() before it is built, "
            "or build it inside a tf.function.".format(caller, x.name, _names(loops))
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
    culprits = [op for op in region(ys, x) if gradient_is_missing(op)]
    return SecondDerivativeError(
        "{}: the {} with respect to '{}' is lost {}. TensorFlow answers None there, "
        "although '{}' depends on '{}': it is not zero. Write that part of the graph "
        "with ops that TensorFlow differentiates twice, or declare it constant with "
        "tf.stop_gradient.".format(
            caller,
            what,
            x.name,
            "at " + _names(culprits) if culprits else "on the way",
            ys[0].name,
            x.name,
        )
    )


def _names(ops):
    return ", ".join("'{}' ({})".format(op.name, op.type) for op in ops[-3:])
