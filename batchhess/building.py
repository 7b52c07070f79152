"""From checked arguments to ops: one x after another, by the method that fits."""

import collections
import contextlib

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.observation_axis import MIXED, prove, walk_from
from batchhess.analysis.partition import NoPartitionError, partition
from batchhess.analysis.region import depends, original
from batchhess.analysis.sizes import product_of
from batchhess.checks import assert_differences, assert_uncoupled
from batchhess.compat import do_not_convert, tf
from batchhess.corrections import correct
from batchhess.layout import Layout, dimensions
from batchhess.methods import METHODS
from batchhess.methods.blocks import at_frontier, block_size, in_blocks
from batchhess.problem import Problem

# What to answer of the Hessian of each observation.
WHOLE, DIAGONAL, TRACE, PRODUCT = "whole", "diagonal", "trace", "product"

# gradients, answers: lists of Tensors, one for each x.
Built = collections.namedtuple("Built", "gradients answers")

# One x, and how to differentiate ys by it. answer: what of the Hessian; direction: the
# Tensor to multiply it by, for `PRODUCT`; with_gradient: whether the caller wants the
# gradient too, so that what computes both is taken for both.
_Request = collections.namedtuple(
    "_Request",
    "ys x layout proof passes method check unconnected answer direction with_gradient",
)


@do_not_convert
def build(
    ys,
    xs,
    name,
    passes,
    batch_axis,
    method,
    check,
    per_output,
    unconnected_gradients,
    answer=WHOLE,
    vs=None,
    with_gradients=False,
):
    """Gradients and second derivatives for the public function that `passes` names.

    Args:
      ys: as in `hessians`.
      xs: as in `hessians`.
      name: of the first answer.
      passes: the `Passes`.
      batch_axis: as in `hessians`.
      method: as in `hessians`.
      check: as in `hessians`.
      per_output: as in `hessians`.
      unconnected_gradients: as in `hessians`.
      answer: `WHOLE`, `DIAGONAL`, `TRACE` or `PRODUCT`.
      vs: for `PRODUCT`, as in `hessian_vector_products`.
      with_gradients: bool, whether the gradients are wanted too.

    Returns:
      `Built`.
    """
    caller = passes.caller
    given = arguments.check(caller, ys, xs, batch_axis, per_output)
    unconnected = arguments.check_unconnected(caller, unconnected_gradients)
    arguments.check_choice(caller, "method", method, ["auto"] + list(METHODS))
    arguments.check_choice(caller, "check", check, ["auto", "always", "never"])
    differentiate = _each_output if per_output else _sum_of_outputs

    gradients, answers = [], []
    with building_in(given.graph, given.ys):
        with tf.name_scope(name or caller) as scope:
            directions = [None] * len(given.xs)
            if answer == PRODUCT:
                directions = arguments.check_directions(caller, vs, given.xs)
            for x, direction in zip(given.xs, directions):
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
                    answer,
                    direction,
                    with_gradients,
                )
                gradient, found = differentiate(request)
                checks = []
                if depends(given.ys, x):
                    walk = walk_from(x, batch_axis)
                    ys_to_check = [y for y in given.ys if not walk.keeps_rows(y)]
                    checks = arguments.assert_same_observations(
                        caller, ys_to_check, x, layout, batch_axis
                    )
                gradients.append(gradient)
                answers.append(_after(checks, found))
        return Built(gradients, named(answers, scope, name or caller))


def named(tensors, scope, name):
    """`tensors`, of which the first is `name + ":0"` in `Session.run`."""
    # A scope ends in "/": as a name it is the whole name, and "hess:0" is found.
    names = [scope] + [name] * (len(tensors) - 1)
    return [tf.identity(t, name=n) for t, n in zip(tensors, names)]


def _sum_of_outputs(request):
    """The gradient, of x's shape, and [N, *E, *E], [N, *E] or [N] of sum(ys)."""
    layout = request.layout
    gradient = _gradient(request, request.ys)
    found, rows = _second(request, request.ys, None, gradient)
    if rows is not None:
        gradient = layout.like_x(rows)
    if request.answer == PRODUCT:
        return gradient, layout.like_x(found)
    return gradient, layout.events(found, [layout] * _times(request))


def _each_output(request):
    """The same for each of M outputs: [N, M, *E], and M after N in the other."""
    request = request._replace(with_gradient=False)
    layout, stack = request.layout, request.passes.stack
    outer = dimensions(request.ys[0])[1:]
    count = product_of(outer)
    shape = tf.stack([layout.num_observations, count])
    y = tf.reshape(request.ys[0], shape)  # [N, M]

    def seed(m):
        return tf.zeros_like(y) + tf.cast(tf.equal(tf.range(count), m), y.dtype)

    def gradient(m):
        return _gradient(request, [y], [seed(m)])

    def second(m):
        return _second(request, [y], [seed(m)], gradient(m))[0]

    def events(by_output, times):
        order = [1, 0] + list(range(2, 2 + times))
        rows = tf.transpose(by_output, order)
        return layout.events(rows, [layout] * times, outer)

    dtype = request.x.dtype.base_dtype
    gradients = stack(lambda m: layout.rows(gradient(m)), count, dtype)  # [M, N, K]
    found = stack(second, count, dtype)
    return events(gradients, 1), events(found, _times(request))


def _times(request):
    """How often K stands in the shape of the answer."""
    return {WHOLE: 2, TRACE: 0}.get(request.answer, 1)


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
    raise arguments.not_connected(passes.caller, ys, x)


def _second(request, ys, seeds, gradient):
    """[N, K, K], [N, K] or [N] from one gradient, with the checks that it needs.

    And the gradient again, as [N, K], if it is wanted and comes with them; else None.
    """
    x, layout, proof, passes, method, check = request[1:7]
    if not depends([gradient], x):  # ys are linear in x.
        shape = [layout.num_observations] + [layout.size] * _times(request)
        return tf.zeros(tf.stack(shape), gradient.dtype), None
    mixed = proof.kind == MIXED
    if mixed and check != "never" and method == "differences":
        raise ValueError(
            "{}: method='differences' moves all observations at once, and '{}' ({}) is "
            "not proven to keep them apart: it {}. Pass check='never' if it "
            "does.".format(passes.caller, proof.op.name, proof.op.type, proof.reason)
        )
    rows = None
    if request.answer == PRODUCT:
        found = layout.rows(passes.second(gradient, x, request.direction))
    else:
        diagonal = request.answer in (DIAGONAL, TRACE)
        problem = Problem(ys, seeds, gradient, x, layout, diagonal=diagonal)
        method, problem = _choose(request, problem)
        if problem.partition is None:
            found = METHODS[method](problem, passes)
        else:
            size, together = block_size(problem), request.with_gradient
            answers = in_blocks(METHODS[method], problem, passes, size, together)
            found, rows = answers if together else (answers[0], None)
    checks = []
    if check != "never" and method != "differences":
        checks += audit.guards(passes.caller, ys, x)
    if mixed and check != "never" and method == "columns":
        checks.append(assert_uncoupled(passes, ys, gradient, x, layout, proof))
    if check == "always":
        checks.append(_assert_differences(request, ys, gradient, found))
    if request.answer == TRACE:
        found = tf.reduce_sum(found, 1)
    return _after(checks, found), rows


def _assert_differences(request, ys, gradient, found):
    x, layout, passes = request.x, request.layout, request.passes

    def along(v):
        if request.answer == WHOLE:
            return found * v[:, None, :]
        if diagonal:
            return (found * v)[:, :, None]
        product = passes.second(gradient, x, layout.like_x(v))
        return layout.rows(product)[:, :, None]

    diagonal = request.answer in (DIAGONAL, TRACE)
    return assert_differences(passes, ys, gradient, x, layout, along, diagonal)


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


@contextlib.contextmanager
def building_in(graph, ys=()):
    """A context in which ops are built in `graph`, on the machine that `ys` are on."""
    # Entered anew, a function's graph would forget its control dependencies.
    inside = graph is tf.get_default_graph()
    with contextlib.nullcontext() if inside else graph.as_default():
        task = _task_of(ys)
        # None would forget the caller's device scope.
        with tf.device(task) if task else contextlib.nullcontext():
            yield


def _task_of(ys):
    """The job and task of a cluster that all `ys` are on, if the caller names none.

    Else TensorFlow would run what has no device on the machine that the Session is
    connected to, and not where the model is. Which device of a machine is left open.
    """
    devices = {y.device for y in ys}
    if len(devices) != 1:
        return None
    spec = tf.DeviceSpec.from_string(devices.pop())
    if spec.job is None and spec.task is None:
        return None
    if tf.no_op(name="caller").device:  # What the caller has chosen stays.
        return None
    return tf.DeviceSpec(spec.job, spec.replica, spec.task)
