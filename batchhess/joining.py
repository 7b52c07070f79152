"""Several x as the coordinates of one, whose Hessian has the cross blocks of all."""

from batchhess import arguments
from batchhess.analysis.region import depends, region
from batchhess.analysis.rewriting import correct
from batchhess.building import Built, build, building_in, named
from batchhess.compat import Variable, do_not_convert, tf
from batchhess.graph.layout import Layout, dimensions
from batchhess.graph.tensors import has_custom_gradient
from batchhess.rebuild import rebuild


@do_not_convert
def build_joined(
    ys,
    xs,
    name,
    passes,
    wanted,
    batch_axis,
    method,
    check,
    per_output,
    unconnected_gradients,
    vs=None,
):
    """As `build`, of all xs together.

    Builds `ys` again as functions of z, one Tensor that holds all of `xs`, and
    differentiates by z.

    Returns:
      `Built`, without gradients. Its answers are for a product a list like `xs`, else a
      list of lists with the blocks of each two.
    """
    caller = passes.caller
    given = arguments.check(caller, ys, xs, batch_axis, per_output)
    unconnected = arguments.check_unconnected(caller, unconnected_gradients)
    _check(caller, given.ys, given.xs, unconnected)
    with building_in(given.graph), tf.name_scope(name or caller) as scope:
        layouts = [Layout(x, batch_axis) for x in given.xs]
        rows = [layout.flatten(x) for layout, x in zip(layouts, given.xs)]
        z = tf.concat(rows, 1, name="xs")  # [N, K], with the coordinates of all
        if wanted.is_product:
            vs = arguments.check_directions(caller, vs, given.xs)
            vs = tf.concat([layout.flatten(v) for layout, v in zip(layouts, vs)], 1)
        (found,) = build(
            _of(caller, given, z, layouts, check),
            z,
            "joined",
            passes,
            wanted,
            batch_axis=0,
            method=method,
            check=check,
            per_output=per_output,
            unconnected_gradients=unconnected,
            vs=vs,
        ).answers
        if not wanted.is_product:
            blocks = _blocks(found, layouts)
            flat = named([b for row in blocks for b in row], scope, name or caller)
            starts = range(0, len(flat), len(layouts))
            return Built(None, [flat[i : i + len(layouts)] for i in starts])
        outer = dimensions(found)[1:-1]
        pieces = _split(found, layouts, found.shape.ndims - 1)
        pieces = [
            layout.events(p, [layout], outer) if per_output else layout.unflatten(p)
            for layout, p in zip(layouts, pieces)
        ]
        return Built(None, named(pieces, scope, name or caller))


def _check(caller, ys, xs, unconnected):
    for x in xs:
        if isinstance(x, Variable):
            raise TypeError(
                "{}: '{}' is a Variable, which cannot be taken together with other xs. "
                "Pass a Tensor that the model reads it through.".format(caller, x.name)
            )
        dtypes = [t.dtype.base_dtype for t in (xs[0], x)]
        if dtypes[0] != dtypes[1]:
            raise TypeError(
                "{}: '{}' is {} and '{}' is {}: their Hessian would have no dtype. "
                "Cast one with tf.cast before the model uses it.".format(
                    caller, xs[0].name, dtypes[0].name, x.name, dtypes[1].name
                )
            )
    for i, x in enumerate(xs):
        for j, other in enumerate(xs):
            if i != j and depends([other], x):
                raise ValueError(
                    "{}: '{}' is computed from '{}', so they are not the independent "
                    "coordinates of one point. For derivatives with the others held "
                    "fixed, build the model on tf.stop_gradient of '{}', and pass "
                    "that.".format(caller, other.name, x.name, other.name)
                )
        if unconnected == tf.UnconnectedGradients.NONE and not depends(ys, x):
            raise arguments.not_connected(caller, ys, x)


def _of(caller, given, z, layouts, check):
    """The ys as functions of `z`."""
    ys, xs = given.ys, given.xs
    for x in xs if check != "never" else []:
        ys = correct(ys, x)
    for op in [op for x in xs for op in region(ys, x)]:
        if has_custom_gradient(op):
            raise _not_built(caller, "has a custom gradient at '{}'".format(op.name))
    pieces = [a.unflatten(p) for a, p in zip(layouts, _split(z, layouts, 1))]
    ys = rebuild(ys, xs, pieces)
    if ys is None:
        raise _not_built(caller, "reads an x inside a loop, branch or function")
    return ys


def _not_built(caller, why):
    return ValueError(
        "{}: the model {}, so it cannot be built again as a function of all xs. Pass "
        "one Tensor, of which the model reads the parts.".format(caller, why)
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
