"""Several x as the coordinates of one, whose Hessian has the cross blocks of all."""

import itertools

from batchhess import arguments
from batchhess.analysis import audit, moving
from batchhess.analysis.region import Region, depends
from batchhess.building import Built, build, building_in, named
from batchhess.calling import assert_that
from batchhess.compat import Variable, source_tensor, tf
from batchhess.graph.layout import Layout, dimensions
from batchhess.graph.tensors import name_of, note_name, placed
from batchhess.methods import methods_for
from batchhess.rebuild import rebuild
from batchhess.rewriting import correct
from batchhess.sparsity import are_several_matrices


def build_joined(request):
    """As `build`, of all xs together.

    Builds ys again as functions of z, one Tensor that holds all of xs, and
    differentiates by z.

    Returns:
      `Built`, without gradients. Its answers are for a product a list like xs, else a
      list of lists with the blocks of each two.
    """
    sparsity = request.sparsity
    if are_several_matrices(sparsity):
        raise ValueError(
            "sparsity must be one matrix, of the coordinates of all xs side by side, "
            "and is a list of {}.".format(len(sparsity))
        )
    asked = request._replace(sparsity=None)
    request, graph = arguments.checked(asked, methods_for(asked.wanted))
    _check(request)
    name, is_product = request.name, request.wanted.is_product
    with building_in(graph), tf.name_scope(name) as scope:
        layouts = [Layout(x, request.batch_axis) for x in request.xs]
        vs = None
        with tf.control_dependencies(_alike(request.xs, layouts)):
            z = _joined(request.xs, layouts, "xs")
            note_name(z, " and ".join(map(name_of, request.xs)))
            if is_product:
                axis = request.batch_axis
                vs = arguments.check_directions(request.vs, request.xs, axis)
                several = arguments.are_several(vs[0], request.xs[0])
                vs = _joined(vs, layouts, "vs", several)
        stands_for = {}
        of_z = request._replace(
            ys=_of(request, z, layouts, stands_for),
            xs=z,
            vs=vs,
            name="joined",
            batch_axis=0,
            sparsity=sparsity,
            stands_for=stands_for,
            sources=request.xs,
        )
        (found,) = build(of_z).answers
        if not is_product:
            blocks = _blocks(found, layouts)
            flat = named([b for row in blocks for b in row], scope, name)
            starts = range(0, len(flat), len(layouts))
            return Built(None, [flat[i : i + len(layouts)] for i in starts])
        outer = dimensions(found)[1:-1]
        pieces = [
            layout.events(p, [layout], outer)
            if request.per_output or several
            else layout.unflatten(p)
            for layout, p in zip(layouts, _split(found, layouts, found.shape.ndims - 1))
        ]
        return Built(None, named(pieces, scope, name))


def _alike(xs, layouts):
    """The checks that all `xs` have the same N, where the graph does not tell."""
    first, count, checks = xs[0], layouts[0].num_observations, []
    for x, layout in zip(xs[1:], layouts[1:]):
        counts = count, layout.num_observations
        message = "'{}' and '{}' differ in their number of observations".format(
            first.name, x.name
        )
        if not all(isinstance(n, int) for n in counts):
            checks.append(assert_that(tf.equal(*counts), message + ":", *counts))
        elif counts[0] != counts[1]:
            raise ValueError("{}: {} and {}.".format(message, *counts))
    return checks


def _joined(tensors, layouts, name, several=False):
    """[N, K], with the coordinates of all `tensors`; or [N, V, K]."""
    if several:
        rows = [a.flatten_each(t) for a, t in zip(layouts, tensors)]
    else:
        rows = [a.flatten(t) for a, t in zip(layouts, tensors)]
    return tf.concat(rows, -1, name=name)


def _check(request):
    xs, unconnected = request.xs, request.unconnected_gradients
    for x in xs:
        if isinstance(x, Variable):
            raise TypeError(
                "'{}' is a Variable, which cannot be taken together with other xs. "
                "Pass a Tensor that the model reads it through.".format(x.name)
            )
        dtypes = [t.dtype.base_dtype for t in (xs[0], x)]
        if dtypes[0] != dtypes[1]:
            raise TypeError(
                "'{}' is {} and '{}' is {}: their Hessian would have no dtype. "
                "Cast one with tf.cast before the model uses it.".format(
                    xs[0].name, dtypes[0].name, x.name, dtypes[1].name
                )
            )
    check_independent(xs)
    for x in xs:
        if unconnected == tf.UnconnectedGradients.NONE and not depends(request.ys, x):
            raise arguments.not_connected(request.ys, x)


def check_independent(xs):
    """Raises ValueError where one of `xs` is computed from another."""
    for x, other in itertools.permutations(xs, 2):
        if x is other:
            raise ValueError(
                "'{}' is given twice among xs. Pass each x once.".format(x.name)
            )
        if depends([source_tensor(other)], x):
            raise ValueError(
                "'{}' is computed from '{}', so they are not the independent "
                "coordinates of one point. For derivatives with the others held "
                "fixed, build the model on tf.stop_gradient of '{}', and pass "
                "that.".format(other.name, x.name, other.name)
            )


def _of(request, z, layouts, stands_for):
    """The ys as functions of `z`; what is built is added to `stands_for`."""
    ys, xs = request.ys, request.xs
    if request.check != "never":
        ys = correct(ys, xs, stands_for)
    own = audit.with_authors_gradient(Region(ys, xs))
    if own:
        raise _not_built("it has a custom gradient at " + placed(own[0]))
    read = [(y, x) for y in ys for x in xs if depends([y], x)]
    pieces = [a.unflatten(p) for a, p in zip(layouts, _split(z, layouts, 1))]
    ys = rebuild(ys, xs, pieces, stands_for=stands_for)
    if ys is None:
        raise _not_built(moving.why_not_rebuilt(*read[0]))
    return ys


def _not_built(why):
    return ValueError(
        "the model cannot be built again as a function of all xs: {}. Or pass one "
        "Tensor, of which the model reads the parts.".format(why)
    )


def _blocks(matrices, layouts):
    """[N, (M,) K, K] as a list of lists of [N, (M,) *E_i, *E_j]."""
    axis = matrices.shape.ndims - 2
    outer = dimensions(matrices)[1:axis]
    return [
        [
            a.events(block, [a, b], outer)
            for b, block in zip(layouts, _split(rows, layouts, axis + 1))
        ]
        for a, rows in zip(layouts, _split(matrices, layouts, axis))
    ]


def _split(tensor, layouts, axis):
    """The parts of `tensor` along `axis`, where the coordinates of all x lie."""
    parts, start = [], 0
    for layout in layouts:
        end = start + layout.size
        parts.append(tensor[(slice(None),) * axis + (slice(start, end),)])
        start = end
    return parts
