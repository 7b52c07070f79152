"""From checked arguments to ops: the only place that builds what a plan says."""

import collections
import contextlib

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.memory import values_of
from batchhess.analysis.region import depends
from batchhess.checks import assert_differences, assert_of_a_function
from batchhess.compat import tf, where_built
from batchhess.copies import assert_same
from batchhess.coupling import assert_uncoupled
from batchhess.errors import SecondDerivativeError
from batchhess.graph.layout import Chosen, dimensions
from batchhess.graph.tensors import original, product_of
from batchhess.methods import methods_for
from batchhess.methods.blocks import at_frontier, by_parts, in_blocks, whole_batch
from batchhess.ops.table import declared
from batchhess.planning import plan
from batchhess.problem import Problem
from batchhess.rebuild import copy
from batchhess.sparsity import assert_covered
from batchhess.unfed import assert_equal, same_values

# gradients, answers: lists of Tensors, one for each x.
Built = collections.namedtuple("Built", "gradients answers")


def build(request):
    """Gradients and second derivatives by each x of a `Request`.

    Returns:
      `Built`.
    """
    request, graph = arguments.checked(request, methods_for(request.wanted))
    gradients, answers = [], []
    with building_in(graph, request.ys):
        with tf.name_scope(request.name) as scope:
            directions = None
            if request.wanted.is_product:
                directions = arguments.check_directions(
                    request.vs, request.xs, request.batch_axis
                )
            plans = plan(request, directions)
            for made in plans:
                gradient, answer = execute(made)
                gradients.append(gradient)
                answers.append(answer)
        answers = named(answers, scope, request.name)
        if not request.dense:
            answers = [made.compressed.sparse(a) for made, a in zip(plans, answers)]
        return Built(gradients, answers)


def named(tensors, scope, name):
    """`tensors`, of which the first is `name + ":0"` in `Session.run`."""
    # A scope ends in "/": as a name it is the whole name, and "hess:0" is found.
    names = [scope] + [name] * (len(tensors) - 1)
    return [tf.identity(t, name=n) for t, n in zip(tensors, names)]


def execute(made):
    """Builds what a `Plan` says, and decides nothing.

    Returns:
      the gradient, of the shape of x, or [N, M, *E] per output; and the answer.

    Raises:
      what the plan refuses.
    """
    if made.refusal is not None:
        raise made.refusal
    build_answer = _each_output if made.request.per_output else _sum_of_outputs
    checks = _same_observations(made) + same_values(made)
    with tf.control_dependencies(made.checks.readers):
        gradient, answer = build_answer(made, checks)
    checks += unchanged(made, answer)
    if made.request.with_gradients:
        gradient = after(checks, gradient)
    return gradient, after(checks, answer)


def unchanged(made, answer):
    """The check that variables still have their values when `answer` is there.

    Where a variable is a reference, an assignment of the same run changes what the
    model has read: each op that reads it must find the same again, in the end.
    """
    ops = made.checks.readers
    if not ops:
        return []
    values = values_of(ops)
    with tf.control_dependencies([answer]):
        pairs = list(zip(values, copy(ops, {}, values)))
    # A loop anew may add up in another order.
    of_calls = [pair for pair in pairs if declared(pair[0].op).calls]
    others = [pair for pair in pairs if not declared(pair[0].op).calls]
    checks = [assert_same(*zip(*of_calls), made.x)] if of_calls else []
    return checks + assert_equal(others, made.x)


def _same_observations(made):
    """The checks that ys and x have the same N, where the graph does not tell."""
    if made.gradient is None:
        return []
    loose = [y for y in made.request.ys if not made.walk.state(y).is_own]
    return arguments.assert_same_observations(
        loose, made.x, made.layout, made.request.batch_axis
    )


def _sum_of_outputs(made, first):
    """The gradient, of x's shape, and [N, *E, *E], [N, *E] or [N] of sum(ys)."""
    layout = made.layout
    gradient = tf.zeros_like(made.x) if made.gradient is None else made.gradient
    found, rows = _second(made, made.ys, None, gradient, first)
    if rows is not None:
        gradient = layout.unflatten(rows)
    if made.direction is not None and not _vectors(made):
        return gradient, layout.unflatten(found)
    return gradient, layout.events(found, _layouts(made), _vectors(made) or None)


def _vectors(made):
    """List of V, if there are several vectors for a product; else of nothing."""
    v = made.direction
    if v is None or not arguments.are_several(v, made.x):
        return []
    return dimensions(v)[1:2]


def _layouts(made):
    """What the axes after N of the answer are laid out as."""
    layouts, chosen = [made.layout] * made.request.wanted.axes, made.request.coordinates
    if not made.request.dense:
        return [Chosen(made.compressed.entries)]
    if chosen is not None and layouts:
        layouts[-1] = Chosen(len(chosen))
    return layouts


def _each_output(made, first):
    """The same for each of M outputs: [N, M, *E], and M after N in the other."""
    layout, passes = made.layout, made.request.passes
    (y,) = made.ys
    outer = dimensions(y)[1:]
    count = product_of(outer)

    def seed(m):
        hot = tf.cast(tf.equal(tf.range(count), m), y.dtype)
        return tf.zeros_like(y) + tf.reshape(hot, tf.stack(outer) if outer else [])

    def gradient(m):
        found = passes.gradient([y], made.x, [seed(m)])
        return tf.zeros_like(made.x) if found is None else found

    def second(m):
        return _second(made, [y], [seed(m)], gradient(m), first)[0]

    dtype = made.x.dtype.base_dtype
    gradients = passes.stack(
        lambda m: layout.flatten(gradient(m)), count, dtype, axis=1
    )
    found = passes.stack(second, count, dtype, axis=1)  # [N, M, ...]
    return (
        layout.events(gradients, [layout], outer),
        layout.events(found, _layouts(made), outer + _vectors(made)),
    )


def _second(made, ys, seeds, gradient, first):
    """[N, K, K], [N, K] or [N] from one gradient, with the checks that it needs.

    And the gradient again, as [N, K], if it is wanted and comes with them; else None.

    Args:
      first: list of Operations, the checks that differences wait for.
    """
    request, layout, x = made.request, made.layout, made.x
    if made.is_linear:
        sizes = [each.size for each in _layouts(made)]
        shape = tf.stack([layout.num_observations] + _vectors(made) + sizes)
        return tf.zeros(shape, gradient.dtype), None
    found, rows = _answer(made, ys, seeds, gradient)
    passes = request.passes

    def weight_of(tensor):
        (weight,) = passes.gradients(ys, [tensor], seeds)
        return None if weight is None or depends([weight], x) else weight

    checks = audit.guards(made.checks.guarded, weight_of)
    if made.checks.coupling:
        checks.append(assert_uncoupled(passes, ys, gradient, x, layout, made.proof))
    if made.checks.pattern:
        with tf.control_dependencies(checks):
            checks = [_covered(made, gradient, found)]
    if made.checks.symmetry:
        suspects = made.checks.unknown
        checks.append(assert_of_a_function(ys, gradient, x, found, suspects))
    if made.checks.differences:
        # What the others find has a better name.
        with tf.control_dependencies(first + checks):
            checks = [_verified(made, ys, seeds, gradient, found)]
    return after(checks, request.wanted.finish(found)), rows


def _answer(made, ys, seeds, gradient):
    """What the method answers; and the gradient as [N, K], if it comes with that."""
    request, layout, passes = made.request, made.layout, made.request.passes
    if request.wanted.is_product:
        return _products(made, gradient, made.direction), None
    method, diagonal = made.record, request.wanted.diagonal
    problem = Problem(ys, seeds, gradient, made.x, layout, diagonal=diagonal)
    if made.by_columns:
        problem = problem._replace(coordinates=request.coordinates)
    if made.compressed is not None:
        problem = made.compressed.given_to(problem)
    if made.parts is None:
        return _chosen(made, method.build(problem, passes)), None
    apart, parts = made.parts
    problem, together = problem._replace(ys=apart), request.with_gradients
    if made.block is None:
        check = request.check != "never"
        found, rows = whole_batch(method.build, problem, parts, passes, check)
        return _chosen(made, found), rows if together else None
    problem = at_frontier(problem, parts, passes)
    answers = in_blocks(method.build, problem, passes, made.block, together)
    return _chosen(made, answers[0]), answers[1] if together else None


def _products(made, gradient, v):
    """[N, K], or [N, V, K] where there are several vectors in `v`."""
    layout, passes = made.layout, made.request.passes

    def product(v):
        return layout.flatten(passes.hvp(gradient, made.x, v))

    if not arguments.are_several(v, made.x):
        return product(v)
    rows = layout.flatten_each(v)
    if made.parts is not None:
        apart, parts = made.parts
        problem = Problem(
            apart, None, None, made.x, layout, parts, outputs=layout.size, vectors=rows
        )
        check = made.request.check != "never"
        return by_parts(made.record.build, problem, passes, made.block, check)
    count = dimensions(v)[1]
    return passes.stack(lambda i: product(layout.nth(rows, i)), count, v.dtype, axis=1)


def _chosen(made, found):
    """The columns or entries that were asked for, of what the method answered."""
    chosen = made.request.coordinates
    if made.compressed is not None:
        return made.compressed.values(found)
    if chosen is None or made.by_columns:
        return found
    return tf.gather(found, chosen, axis=found.shape.ndims - 1)


def _covered(made, gradient, found):
    """The check that no entry but those of the pattern is other than zero."""
    layout, passes, x = made.layout, made.request.passes, made.x
    rows = layout.flatten(gradient)  # [N, K]

    def pull(u):
        return layout.flatten(passes.hvp(rows, x, tf.cast(u, rows.dtype)))

    flat = layout.flatten(x)
    return assert_covered(
        made.compressed, found, pull, x, flat, rows, made.checks.pattern
    )


def _verified(made, ys, seeds, gradient, found):
    """The check against differences, which an op that no test has seen must have."""
    try:
        return _differences(made, ys, seeds, gradient, found)
    except ValueError as error:
        if made.request.check == "always":
            raise
        op = original(made.checks.unknown[0])
        raise SecondDerivativeError(
            "no test has seen TensorFlow's second derivative of '{}' ({}){}, and "
            "the runs cannot verify it: {} Pass check='never' to trust it.".format(
                op.name, op.type, where_built(op), error
            )
        ) from error


def _differences(made, ys, seeds, gradient, found):
    layout, passes, wanted = made.layout, made.request.passes, made.request.wanted
    chosen = made.request.coordinates

    def along(v):
        if wanted.is_product:
            one = layout.events(v[:, None], [layout], [1])
            several = made.parts is not None
            product = _products(made, gradient, one if several else layout.unflatten(v))
            return tf.reshape(product, tf.shape(v))[:, :, None]
        if chosen is None:
            return wanted.along(found, v)
        first = [chosen.index(k) for k in sorted(set(chosen))]  # None of them twice.
        some = tf.gather(found, first, axis=found.shape.ndims - 1)
        hot = tf.one_hot(sorted(set(chosen)), layout.size, dtype=v.dtype)  # [C, K]
        return wanted.along(tf.tensordot(some, hot, 1), v)  # As if all others were 0.

    return assert_differences(
        passes,
        ys,
        gradient,
        made.x,
        layout,
        along,
        wanted.diagonal,
        seeds=seeds,
        coordinates=chosen,
        suspects=made.checks.unknown,
    )


def after(checks, tensor):
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
