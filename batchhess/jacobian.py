"""The Jacobians: what builds them, as their plans say."""

from batchhess import arguments
from batchhess.analysis.audit import guards
from batchhess.building import after, building_in, named, unchanged
from batchhess.calling import assert_that
from batchhess.compat import tf
from batchhess.graph.layout import Chosen, dimensions
from batchhess.graph.tensors import name_of
from batchhess.jacobian_checks import assert_along, assert_apart
from batchhess.jacobian_planning import columns_of, compressed_of, not_seen, plan
from batchhess.methods import JACOBIAN_METHODS
from batchhess.methods.blocks import by_parts
from batchhess.problem import Problem
from batchhess.sparsity import assert_covered
from batchhess.unfed import same_values


def build_jacobians(request):
    """The Jacobians of the one y by each x of a `Request`: a list of Tensors."""
    request, graph = arguments.checked(request, JACOBIAN_METHODS)
    arguments.check_one_y(request.ys, request.xs, request.batch_axis)
    with building_in(graph, request.ys), tf.name_scope(request.name) as scope:
        given = zip(request.xs, request.sparsity or [None] * len(request.xs))
        plans = [plan(request, *x) for x in given]
        answers = named([execute(made) for made in plans], scope, request.name)
        if request.dense:
            return answers
        return [compressed_of(made).sparse(a) for made, a in zip(plans, answers)]


def execute(made):
    """Builds what a `JacobianPlan` says, and decides nothing: [N, *F, *E].

    Raises:
      what the plan refuses.
    """
    if made.refusal is not None:
        raise made.refusal
    layout = made.layout
    with tf.control_dependencies(made.checks.readers):
        found = _zeros(made) if made.is_zero else _answer(made)
    checks = guards(made.checks.guarded)
    if made.checks.coupling:
        checks.append(
            assert_apart(made.request.passes, made.ys[0], made.x, layout, made.state)
        )
    if made.checks.pattern:
        with tf.control_dependencies(checks):
            checks = [_covered(made, found)]
    first = same_count(made) + same_values(made)
    if made.checks.differences:
        # What the others find has a better name.
        with tf.control_dependencies(first + checks):
            checks = [verified(made, lambda: _differences(made, found))]
    answer = _shaped(made, after(checks, found))
    return after(first + unchanged(made, answer), answer)


def _zeros(made):
    shape = [made.outputs.size, columns_of(made)]
    if made.compressed:
        shape = [compressed_of(made).entries]
    shape = tf.stack([made.layout.num_observations] + shape)
    return tf.zeros(shape, made.x.dtype.base_dtype)


def _shaped(made, found):
    """[N, *F, *E] of [N, M, C] or of the values of entries; or these, if asked for."""
    chosen, found_of = made.request.coordinates, compressed_of(made)
    if not made.request.dense:
        return made.layout.events(found, [Chosen(found_of.entries)])
    if found_of is not None:
        found = found_of.dense(found)
    last = made.layout if chosen is None else Chosen(len(chosen))
    return made.layout.events(found, [last], dimensions(made.ys[0])[1:])


def _covered(made, found):
    """The check that no entry but those of the pattern is other than zero."""
    layout, passes, x = made.layout, made.request.passes, made.x
    rows = made.outputs.flatten(made.ys[0])  # [N, M]

    def pull(u):
        seed = tf.cast(u, rows.dtype)
        return layout.flatten(passes.gradient([rows], x, [seed]))

    flat, found_of = layout.flatten(x), compressed_of(made)
    return assert_covered(found_of, found, pull, x, flat, rows, made.checks.pattern)


def _answer(made):
    """What the method answers, [N, M, C]; or values of entries, [N, entries]."""
    found, compressed = _by_method(made), compressed_of(made)
    return found if compressed is None else compressed.values(found)


def _by_method(made):
    passes, method = made.request.passes, JACOBIAN_METHODS[made.method]
    problem = Problem(
        made.ys,
        None,
        None,
        made.x,
        made.layout,
        coordinates=made.request.coordinates,
        outputs=made.outputs.size,
        unrolled=made.unrolled,
    )
    if made.compressed:
        problem = compressed_of(made).given_to(problem)
    if made.parts is None:
        return method.build(problem, passes)
    apart, parts = made.parts
    problem = problem._replace(ys=apart, partition=parts)
    check = made.request.check != "never"
    return by_parts(method.build, problem, passes, made.block, check)


def _differences(made, found):
    chosen, compressed = made.request.coordinates, compressed_of(made)

    def along(v):
        if compressed is not None:
            return compressed.times(found, v)[:, :, None]
        if chosen is None:
            return found * v[:, None, :]
        first = [chosen.index(k) for k in sorted(set(chosen))]
        some = tf.gather(found, first, axis=2)  # None of them twice.
        return some * tf.gather(v, sorted(set(chosen)), axis=1)[:, None, :]

    return assert_along(made.ys[0], made.x, made.layout, along, chosen, made.checks)


def verified(made, differences):
    """The check that `differences()` builds, which an op not known to be right needs.

    Raises:
      SecondDerivativeError: it cannot be built.
    """
    try:
        return differences()
    except ValueError as error:
        if made.request.check == "always":
            raise
        raise not_seen(made, str(error)) from error


def same_count(made):
    """The check that y and x have the same N, where the graph does not tell."""
    y, count = made.request.ys[0], made.layout.num_observations
    if isinstance(count, int) and y.shape.as_list()[0] == count:
        return []
    message = "{} and {} differ in their number of observations:".format(
        y.name, name_of(made.x)
    )
    found = tf.shape(y)[0]
    return [assert_that(tf.equal(found, count), message, found, count)]
