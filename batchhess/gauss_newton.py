"""Products of Gauss and Newton: J' H J v, of the model's J and the loss's H."""

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.region import Region, depends
from batchhess.building import after, build, building_in, named, unchanged
from batchhess.compat import source_tensor, tf
from batchhess.graph.layout import dimensions
from batchhess.graph.tensors import name_of, tensor_key
from batchhess.jacobian import same_count, verified
from batchhess.jacobian_checks import assert_adjoint, assert_along, assert_apart
from batchhess.jacobian_planning import plan
from batchhess.joining import check_independent
from batchhess.methods import JACOBIAN_METHODS
from batchhess.problem import PRODUCT
from batchhess.unfed import same_values


def build_gauss_newton(request, loss):
    """The products for a `Request`, whose ys are the outputs: a list of Tensors.

    With several xs, J holds the columns of all of them side by side.
    """
    request, graph = arguments.checked(request, JACOBIAN_METHODS)
    xs, axis = request.xs, request.batch_axis
    outputs = arguments.check_one_y(request.ys, xs, axis)
    check_independent(xs)
    of_loss = request._replace(
        ys=loss, xs=outputs, name="loss", wanted=PRODUCT, method="columns", batch_axis=0
    )
    losses = arguments.checked(of_loss, ["columns"])[0].ys
    if request.check != "never":
        _check_reads(losses, outputs, xs)
    with building_in(graph, request.ys), tf.name_scope(request.name) as scope:
        vs = arguments.check_directions(request.vs, xs, axis)
        several = arguments.are_several(vs[0], xs[0])
        models = [_Model(plan(request, x), several) for x in xs]
        pushed = [model.push(v) for model, v in zip(models, vs)]
        pushed = pushed[0] if len(pushed) == 1 else tf.add_n(pushed)
        (curved,) = build(of_loss._replace(vs=pushed)).answers
        return named([model.pull(curved) for model in models], scope, request.name)


def _check_reads(losses, outputs, xs):
    """Raises ValueError where the loss reads an x beside the outputs."""
    for x in xs:
        is_x = tensor_key(outputs) == tensor_key(source_tensor(x))
        if not is_x and depends(losses, x, [outputs]):
            raise ValueError(
                "'{}' depends on '{}' beside '{}' too, which the product of Gauss and "
                "Newton leaves out. Pass the part of it that is a function of '{}', or "
                "check='never'.".format(
                    losses[0].name, name_of(x), outputs.name, outputs.name
                )
            )


class _Model:
    """The outputs as a function of one x: products with J, and with its transpose.

    J' w is one reverse pass with the seed w, and linear in it: so one pass through
    that, with the seed v, is J v.

    Args:
      made: the `JacobianPlan` of the outputs.
      several: bool, whether vectors are several, [N, V, *E] and [N, V, *F].

    Raises:
      what the plan refuses.
      SecondDerivativeError: TensorFlow loses a derivative of a gradient.
    """

    def __init__(self, made, several):
        if made.refusal is not None:
            raise made.refusal
        self._made, self._several, self._x = made, several, made.x
        self._passes, self._dtype = made.request.passes, made.ys[0].dtype.base_dtype
        if made.is_zero:
            return
        self._rows = made.outputs.flatten(made.ys[0])  # [N, M]
        # Any would do, but where TensorFlow divides by it (reduce_euclidean_norm).
        self._seed = tf.ones_like(self._rows)
        with tf.control_dependencies(made.checks.readers):
            self._pulled = self._passes.gradient([self._rows], self._x, [self._seed])
        refused = _lost(made, self._pulled, self._seed)
        if refused is not None:
            raise refused

    def push(self, v):
        """J v: [N, *F], or [N, V, *F]."""
        made = self._made
        found = self._each(v, made.layout, self._push, made.outputs.size, self._dtype)
        return self._shaped(found, v, made.outputs)

    def pull(self, w):
        """J' w, of the shape of x, or [N, V, *E], with the checks that J needs."""
        made, dtype = self._made, self._x.dtype.base_dtype
        found = self._each(w, made.outputs, self._pull, made.layout.size, dtype)
        first = same_count(made) + same_values(made)
        answer = self._shaped(after(self._checks(first), found), w, made.layout)
        return after(first + unchanged(made, answer), answer)

    def _each(self, vectors, layout, function, size, dtype):
        """`function` of `vectors`, of the layout `layout`: [N, D], or [N, V, D]."""
        count = dimensions(vectors)[1:2] if self._several else []
        if self._made.is_zero:
            shape = [self._made.layout.num_observations] + count + [size]
            return tf.zeros(tf.stack(shape), dtype)
        with tf.control_dependencies(self._made.checks.readers):
            if not self._several:
                return function(vectors)
            rows = layout.flatten_each(vectors)
            return self._passes.stack(
                lambda i: function(layout.nth(rows, i)), count[0], dtype, axis=1
            )

    def _shaped(self, found, vectors, layout):
        if self._several:
            return layout.events(found, [layout], dimensions(vectors)[1:2])
        return layout.unflatten(found)

    def _push(self, v):
        """J v of one vector of the shape of x: [N, M]."""
        found = self._passes.gradient([self._pulled], self._seed, [v])
        if found is None:
            raise audit.lost("derivative of a gradient", [self._pulled], self._seed)
        return found

    def _pull(self, w):
        """J' w of one vector of the shape of the outputs: [N, K]."""
        seed = self._made.outputs.flatten(w)
        return self._made.layout.flatten(
            self._passes.gradient([self._rows], self._x, [seed])
        )

    def _checks(self, first):
        made = self._made
        y, layout, checks = made.ys[0], made.layout, audit.guards(made.checks.guarded)
        if made.checks.coupling:
            checks.append(assert_apart(self._passes, y, made.x, layout, made.state))
        if not made.checks.differences:
            return checks

        def along(v):
            return self._push(layout.unflatten(v))[:, :, None]

        def differences():
            return assert_along(y, made.x, layout, along, None, made.checks)

        # What the others find has a better name.
        with tf.control_dependencies(first + checks):
            adjoint = assert_adjoint(
                self._rows, made.x, layout, self._push, self._pull, made.outputs
            )
            return [verified(made, differences), adjoint]


def _lost(made, pulled, seed):
    """The refusal where a pass through a reverse pass loses a part; else None.

    Args:
      made: the `JacobianPlan`.
      pulled: Tensor, J' w.
      seed: Tensor [N, M], w.
    """
    if made.request.check == "never":
        return None
    wrong = audit.lost_in(Region([pulled], seed))
    if made.unrolled:
        wrong += audit.loops_in(Region(made.ys, made.x))
    return audit.refusal(wrong, made.x, "derivative of a gradient", "tf.gradients")
