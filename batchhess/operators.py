"""The public op builders: check the arguments, pick a method, shape the result."""

import collections
import contextlib
from typing import Any, List, Optional

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.observation_axis import MIXED, prove, walk_from
from batchhess.analysis.partition import NoPartitionError, partition
from batchhess.analysis.region import depends, original
from batchhess.checks import assert_differences, assert_uncoupled
from batchhess.compat import do_not_convert, tf
from batchhess.corrections import correct
from batchhess.layout import Layout, dimensions, product
from batchhess.methods import METHODS
from batchhess.methods.blocks import at_frontier, block_size, in_blocks
from batchhess.passes import Passes
from batchhess.problem import Problem

Derivatives = collections.namedtuple("Derivatives", ["values", "gradients", "hessians"])


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> List[tf.Tensor]:
    """Builds the Hessian of each observation of `xs`: `[N, K, K]`, not `[N, K, N, K]`.

    Takes the place of `tf.hessians(ys, xs)` where `ys` is a sum over observations.
    `result[n, i, j]` is the second derivative of `sum(ys)` with respect to `x[n, i]`
    and `x[n, j]`. N may be unknown until the Session runs. The result can itself be
    differentiated.

    Args:
      ys: a Tensor of floating dtype and shape `[]`, `[N]` or `[N, M]`, or a list of
        such; they are summed, as `tf.hessians` does.
      xs: a Tensor or Variable of shape `[N, K]`, or a list of such. Any `[N, *E]` of
        known rank will do: rank 1 is N observations of one coordinate each.
      name: names the result: `name + ":0"` is the first x's in `Session.run`.
      colocate_gradients_with_ops: as in `tf.gradients`.
      gate_gradients: as in `tf.gradients`.
      aggregation_method: as in `tf.gradients`.
      batch_axis: the axis of each x along which the observations lie.
      method: "columns" takes K reverse passes, and needs `ys` to be a sum of a function
        of each observation alone. "symmetric" does the same with about half the work,
        block by block, where the graph proves it. "observations" takes N K passes, and
        answers the exact diagonal blocks of any `ys`. "differences" takes differences
        of the gradient, for ops that have no second derivative. "auto" is "symmetric"
        where it can be, else "columns".
      check: "auto" refuses what the graph shows TensorFlow to differentiate wrongly.
        Unless it proves observations separable too, two more reverse passes fail the
        run where they are coupled. "always" also holds every run's Hessians, along a
        random direction, against differences of the gradient. "never" does nothing.
      per_output: answer a Hessian for each of the M outputs instead of their sum.
      parallel_iterations: passes that may run at a time; `tf.while_loop`'s own default
        if None.
      swap_memory: as in `tf.while_loop`.
      jit_compile: compile the model, its gradient and its Hessian with XLA, as one
        program for each block of observations. TensorFlow 2.5 or newer.
      unconnected_gradients: `tf.UnconnectedGradients.ZERO` answers zeros where `ys`
        does not depend on an x; `NONE` raises.

    Returns:
      A list of Tensors, one for each x, of x's dtype and of shape `[N, *E, *E]`, or
      `[N, M, *E, *E]` with `per_output`. It is zeros where `ys` is linear in x.

    Raises:
      RuntimeError: `ys` or `xs` are eager tensors.
      TypeError: one of them is no Tensor, or not of a real floating dtype.
      ValueError: the graphs, shapes or options do not fit, or `ys` does not depend on
        an x. When the Session runs, an N that differs, and coupled observations, are
        an InvalidArgumentError.
      SecondDerivativeError: TensorFlow has lost the second derivative on the way.
      UndefinedDerivativeError: it has an op without a second derivative.
      NotImplementedError: `jit_compile`, and this TensorFlow has none.
    """
    return _build(
        ys,
        xs,
        name,
        Passes(
            "hessians",
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
        per_output=per_output,
        unconnected_gradients=unconnected_gradients,
        with_gradients=False,
    ).hessians


def derivatives(
    ys: Any,
    xs: Any,
    name: str = "derivatives",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: Optional[int] = None,
    *,
    batch_axis: int = 0,
    method: str = "auto",
    check: str = "auto",
    per_output: bool = False,
    parallel_iterations: Optional[int] = None,
    swap_memory: bool = False,
    jit_compile: bool = False,
    unconnected_gradients: Any = tf.UnconnectedGradients.NONE,
) -> Derivatives:
    """Builds value, gradient and Hessian of each observation on one gradient graph.

    Args:
      ys: as in `hessians`.
      xs: as in `hessians`.
      name: names the Hessians, as in `hessians`.
      colocate_gradients_with_ops: as in `tf.gradients`.
      gate_gradients: as in `tf.gradients`.
      aggregation_method: as in `tf.gradients`.
      batch_axis: as in `hessians`.
      method: as in `hessians`.
      check: as in `hessians`.
      per_output: as in `hessians`.
      parallel_iterations: as in `hessians`.
      swap_memory: as in `tf.while_loop`.
      jit_compile: as in `hessians`.
      unconnected_gradients: as in `hessians`.

    Returns:
      A namedtuple `Derivatives`. `values`: `ys` as given. `gradients`: a list of
      Tensors of the shapes of `xs`, or `[N, M, *E]` with `per_output`. `hessians`: as
      `hessians` answers. What goes block by block computes both of these in one: fetch
      `tf.gradients(ys, xs)` where you want gradients alone.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`.
      ValueError: as `hessians`.
      SecondDerivativeError: as `hessians`.
      UndefinedDerivativeError: as `hessians`.
      NotImplementedError: as `hessians`.
    """
    return _build(
        ys,
        xs,
        name,
        Passes(
            "derivatives",
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
        per_output=per_output,
        unconnected_gradients=unconnected_gradients,
        with_gradients=True,
    )


@do_not_convert
def _build(
    ys,
    xs,
    name,
    passes,
    batch_axis,
    method,
    check,
    per_output,
    unconnected_gradients,
    with_gradients,
):
    """Gradients and Hessians for either public function, which `passes` names."""
    caller = passes.caller
    given = arguments.check(caller, ys, xs, batch_axis, per_output)
    unconnected = arguments.check_unconnected(caller, unconnected_gradients)
    arguments.check_choice(caller, "method", method, ["auto"] + list(METHODS))
    arguments.check_choice(caller, "check", check, ["auto", "always", "never"])
    differentiate = _each_output if per_output else _sum_of_outputs

    gradients, blocks = [], []
    with _building_in(given.graph):
        with tf.name_scope(name or caller) as scope:
            for x in given.xs:
                layout = Layout(x, batch_axis)
                corrected = given.ys if check == "never" else correct(given.ys, x)
                request = _Request(
                    corrected,
                    x,
                    layout,
                    prove(corrected, x, batch_axis),
                    passes,
                    method,
                    check,
                    unconnected,
                    with_gradients,
                )
                gradient, hessian = differentiate(request)
                checks = []
                if depends(given.ys, x):
                    walk = walk_from(x, batch_axis)
                    ys_to_check = [y for y in given.ys if not walk.keeps_rows(y)]
                    checks = arguments.assert_same_observations(
                        caller, ys_to_check, x, layout, batch_axis
                    )
                gradients.append(gradient)
                blocks.append(_after(checks, hessian))
        # A scope ends in "/": as a name it is the whole name, and "hess:0" is found.
        names = [scope] + [name or caller] * (len(blocks) - 1)
        results = [tf.identity(h, name=n) for h, n in zip(blocks, names)]
    return Derivatives(ys, gradients, results)


# One x, and how to differentiate ys by it; with_gradient: whether the caller wants the
# gradient too, so that what computes both is taken for both.
_Request = collections.namedtuple(
    "_Request", "ys x layout proof passes method check unconnected with_gradient"
)


def _sum_of_outputs(request):
    """Answers the gradient, of x's shape, and the Hessians [N, *E, *E] of sum(ys)."""
    gradient = _gradient(request, request.ys)
    blocks, rows = _hessian(request, request.ys, None, gradient)
    if rows is not None:
        gradient = request.layout.like_x(rows)
    return gradient, request.layout.events(blocks, times=2)


def _each_output(request):
    """Answers gradients [N, M, *E] and Hessians [N, M, *E, *E] of each of M outputs."""
    request = request._replace(with_gradient=False)
    layout, stack = request.layout, request.passes.stack
    outer = dimensions(request.ys[0])[1:]
    count = product(outer)
    shape = tf.stack([layout.num_observations, count])
    y = tf.reshape(request.ys[0], shape)  # [N, M]

    def seed(m):
        return tf.zeros_like(y) + tf.cast(tf.equal(tf.range(count), m), y.dtype)

    def gradient(m):
        return _gradient(request, [y], [seed(m)])

    dtype = request.x.dtype.base_dtype
    gradients = stack(lambda m: layout.rows(gradient(m)), count, dtype)  # [M, N, K]
    blocks = stack(
        lambda m: _hessian(request, [y], [seed(m)], gradient(m))[0], count, dtype
    )
    return (
        layout.events(tf.transpose(gradients, [1, 0, 2]), times=1, outer=outer),
        layout.events(tf.transpose(blocks, [1, 0, 2, 3]), times=2, outer=outer),
    )


def _gradient(request, ys, seeds=None):
    """The gradient of `ys`, of the shape of x; zeros or an error if unconnected."""
    x, passes = request.x, request.passes
    gradient = passes.gradient(ys, x, seeds)
    if gradient is not None:
        if request.method == "differences":
            audit.check_values(passes.caller, ys, gradient, x)
        elif request.check != "never":
            audit.check(passes.caller, ys, gradient, x)
        return gradient
    if depends(ys, x):
        raise audit.lost(passes.caller, "gradient", ys, x)
    if request.unconnected == tf.UnconnectedGradients.ZERO:
        return tf.zeros_like(x)
    raise ValueError(
        "{}: '{}' does not depend on '{}'. Pass "
        "unconnected_gradients=tf.UnconnectedGradients.ZERO for zeros.".format(
            passes.caller, ys[0].name, x.name
        )
    )


def _hessian(request, ys, seeds, gradient):
    """The Hessian blocks [N, K, K] of one gradient, with the checks that they need.

    And the gradient again, as [N, K], if it is wanted and comes with them; else None.
    """
    x, layout, proof, passes, method, check = request[1:7]
    if not depends([gradient], x):  # ys are linear in x.
        shape = tf.stack([layout.num_observations, layout.size, layout.size])
        return tf.zeros(shape, gradient.dtype), None
    mixed = proof.kind == MIXED
    if mixed and check != "never" and method == "differences":
        raise ValueError(
            "{}: method='differences' moves all observations at once, and '{}' ({}) is "
            "not proven to keep them apart: it {}. Pass check='never' if it "
            "does.".format(passes.caller, proof.op.name, proof.op.type, proof.reason)
        )
    problem = Problem(ys, seeds, gradient, x, layout, None, None)
    method, problem = _choose(request, problem)
    rows = None
    if problem.partition is None:
        blocks = METHODS[method](problem, passes)
    else:
        size, together = block_size(problem), request.with_gradient
        answers = in_blocks(METHODS[method], problem, passes, size, together)
        blocks, rows = answers if together else (answers[0], None)
    checks = []
    if check != "never" and method != "differences":
        checks += audit.guards(passes.caller, ys, x)
    if mixed and check != "never" and method == "columns":
        checks.append(assert_uncoupled(passes, ys, gradient, x, layout, proof))
    if check == "always":
        checks.append(assert_differences(passes, ys, gradient, blocks, x, layout))
    return _after(checks, blocks), rows


def _choose(request, problem):
    """The method to take, and `problem` with a partition if it goes block by block."""
    method, caller, proof = request.method, request.passes.caller, request.proof
    compiled = request.passes.jit_compile
    if compiled and method in ("observations", "differences"):
        raise ValueError(
            "{}: jit_compile=True needs method='symmetric' or 'columns'.".format(caller)
        )
    if method not in ("auto", "symmetric") and not compiled:
        return method, problem
    why, op = proof.reason, proof.op
    if proof.kind != MIXED:
        try:
            parts = partition(problem.ys, request.x, request.layout.axis)
            problem = at_frontier(problem, parts, request.passes)
            return "symmetric" if method == "auto" else method, problem
        except NoPartitionError as error:
            why, op = error.reason, error.op
    if method == "auto" and not compiled:
        return "columns", problem
    raise ValueError(
        "{}: {} cannot follow the observations of '{}': {} {}. Pass "
        "method='columns' alone.".format(
            caller,
            "jit_compile=True" if compiled else "method='symmetric'",
            request.x.name,
            "it" if op is None else "'{}' ({})".format(original(op).name, op.type),
            why,
        )
    )


def _after(checks, tensor):
    """`tensor`, once `checks` have passed."""
    if not checks:
        return tensor
    with tf.control_dependencies(checks):
        return tf.identity(tensor)


def _building_in(graph):
    """A context in which ops are built in `graph`."""
    # Entered anew, a function's graph would forget its control dependencies.
    inside = graph is tf.get_default_graph()
    return contextlib.nullcontext() if inside else graph.as_default()
