"""The public op builders of first derivatives."""

from typing import Any, List, Optional, Sequence

from batchhess.compat import tf
from batchhess.jacobian import build_jacobians
from batchhess.passes import Passes


def jacobians(
    ys: Any,
    xs: Any,
    name: str = "jacobians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    coordinates: Optional[Sequence[int]] = None,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the Jacobian of each observation: `[N, M, K]`, not `[N, M, N, K]`.

    `result[n, m, k]` is the derivative of `ys[n, m]` with respect to `x[n, k]`. N and M
    may be unknown until the Session runs. The result can itself be differentiated.

    Args:
      ys: a Tensor of floating dtype and shape `[N, M]`, or any `[N, *F]` of known rank:
        `[N]` is N observations of one output each, `[N, *E]`.
      xs: as in `hessians`.
      name: names the result: `name + ":0"` is the first x's in `Session.run`.
      colocate_gradients_with_ops: as in `tf.gradients`.
      gate_gradients: as in `tf.gradients`.
      aggregation_method: as in `tf.gradients`.
      batch_axis: the axis of each x along which the observations lie; they lie along
        axis 0 of `ys`.
      method: "forward" carries the tangents of all coordinates through the model at
        once, block by block, where the graph proves observations separable. "reverse"
        takes M passes, and needs observation n of `ys` to depend on observation n of x
        alone. "observations" takes N M passes, and answers the exact diagonal blocks of
        any `ys`. "auto" is "forward" where it can be and there are no more coordinates
        than outputs, else "reverse".
      check: "auto" refuses what the graph shows TensorFlow to differentiate wrongly.
        Unless it proves observations separable too, three more reverse passes fail the
        run where they are coupled, or in another order in `ys`. A derivative that no
        test has seen right is held against differences of `ys` in each run. "always"
        holds every run's Jacobians against these, along a random direction. "never"
        does nothing.
      coordinates: ints; the columns of these coordinates alone, `[N, M, C]`. They count
        along an observation, in the order of a reshape to `[N, K]`.
      parallel_iterations: passes that may run at a time; `tf.while_loop`'s own default
        if None.
      swap_memory: as in `tf.while_loop`.
      jit_compile: compile the model and its derivatives with XLA, as one program for
        each block of observations. TensorFlow 2.5 or newer.
      unconnected_gradients: `tf.UnconnectedGradients.ZERO` answers zeros where `ys`
        does not depend on an x; `NONE` raises.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N, *F, *E]`.

    Raises:
      RuntimeError: `ys` or `xs` are eager tensors.
      TypeError: one of them is no Tensor, or not of a real floating dtype.
      ValueError: the graphs, shapes or options do not fit, there is more than one y,
        its observations are not on axis 0, or it does not depend on an x. When the
        Session runs, an N that differs, and coupled observations, are an
        InvalidArgumentError.
      SecondDerivativeError: TensorFlow has lost the derivative on the way.
      UndefinedDerivativeError: it has an op without a derivative.
      NotImplementedError: `jit_compile`, and this TensorFlow has none.
    """
    return build_jacobians(
        ys,
        xs,
        name,
        Passes(
            "jacobians",
            colocate_gradients_with_ops,
            gate_gradients,
            aggregation_method,
            parallel_iterations,
            swap_memory,
            jit_compile,
        ),
        batch_axis=batch_axis,
        method=method,
        check=check,
        coordinates=coordinates,
        unconnected_gradients=unconnected_gradients,
    )
