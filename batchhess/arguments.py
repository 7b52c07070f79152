"""Checks of what the caller gave: clear errors before anything is built."""

import numpy as np

from batchhess.calling import assert_that, caller, told
from batchhess.compat import Variable, is_eager, outer_graphs, tf
from batchhess.graph.tensors import product_of
from batchhess.sparsity import patterns


def checked(request, methods):
    """Checks everything that the graph shows.

    Args:
      request: the `Request`, as the caller of a public function gave it.
      methods: dict from their names to the methods to choose from.

    Returns:
      the `Request` with ys and xs as lists of Tensors, unconnected_gradients of its
      type, coordinates a tuple of int, from 0 where K is known, and sparsity a list
      with the `Pattern` of each x, or None; and the graph in which to build.

    Raises:
      RuntimeError, TypeError, ValueError: as the public functions document.
    """
    ys, xs = _list(request.ys), _list(request.xs)
    for role, tensors in (("ys", ys), ("xs", xs)):
        if not tensors:
            raise ValueError("{} is an empty list.".format(role))
        for tensor in tensors:
            _check_tensor(role, tensor)
    graph = _innermost_graph(ys + xs)
    batch_axis = int_of("batch_axis", request.batch_axis)
    for x in xs:
        _check_shape(x, batch_axis)
        for y in ys:
            _check_observations(y, x, batch_axis)
    if request.per_output:
        _check_outputs(ys, xs, batch_axis)
    _check_choice("method", request.method, ["auto"] + list(methods))
    _check_choice("check", request.check, ["auto", "always", "never"])
    request = request._replace(
        ys=ys,
        xs=xs,
        batch_axis=batch_axis,
        name=request.name or caller(),
        coordinates=_check_coordinates(request.coordinates, xs, batch_axis),
        sparsity=_check_sparsity(request, xs, methods),
        unconnected_gradients=_check_unconnected(request.unconnected_gradients),
    )
    return request, graph


def check_one_y(ys, xs, batch_axis):
    """Returns the one y, with observations on its axis 0, or raises ValueError."""
    if len(ys) != 1 or not ys[0].shape.ndims:
        raise ValueError(
            "it needs one y of known rank, of shape [N] or [N, M], not {}.".format(
                ["'{}' {}".format(y.name, y.shape) for y in ys]
            )
        )
    _check_axis_0(ys[0], xs, batch_axis, "the Jacobian")
    return ys[0]


def int_of(option, value):
    """`value` as an int, or raises TypeError: True is none, and NumPy's are."""
    others = (bool, np.bool_, np.ndarray, tf.Tensor)
    if isinstance(value, others) or not hasattr(value, "__index__"):
        raise TypeError("{} must be an int, not {!r}.".format(option, value))
    return int(value)


def _check_choice(option, value, choices):
    """Returns `value`, or raises ValueError if it is none of `choices`."""
    if value not in choices:
        raise ValueError(
            "{} must be one of {}, not {!r}.".format(
                option, ", ".join(repr(c) for c in choices), value
            )
        )
    return value


def _check_unconnected(value):
    """Returns `value`, or the string of one, as a tf.UnconnectedGradients."""
    choices = [choice.value for choice in tf.UnconnectedGradients]
    value = getattr(value, "value", value)
    return tf.UnconnectedGradients(
        _check_choice("unconnected_gradients", value, choices)
    )


def not_connected(ys, x):
    """The ValueError where `ys` do not depend on `x`."""
    return ValueError(
        "'{}' does not depend on '{}'. Pass "
        "unconnected_gradients=tf.UnconnectedGradients.ZERO for zeros.".format(
            ys[0].name, x.name
        )
    )


def check_directions(vs, xs, batch_axis):
    """`vs` as a list of Tensors, each of the dtype of its x.

    Args:
      vs: a Tensor or array, or a list of such.
      xs: list of Tensors or Variables.
      batch_axis: int, the observation axis of `xs`.

    Returns:
      list of Tensors of the shapes of `xs`, or all of [N, V, *E]. They fail with
      InvalidArgumentError in a run where their shapes are others.

    Raises:
      TypeError: a v is of another dtype than its x.
      ValueError: there are more or fewer than `xs`, or the shapes differ.
    """
    vs = vs if isinstance(vs, (list, tuple)) else [vs]
    if len(vs) != len(xs):
        raise ValueError("vs has {} tensors, and xs has {}.".format(len(vs), len(xs)))
    directions = []
    for v, x in zip(vs, xs):
        dtype = x.dtype.base_dtype
        if not isinstance(v, tf.Tensor):
            v = tf.convert_to_tensor(v, dtype)
        if v.dtype.base_dtype != dtype:
            raise TypeError(
                "'{}' in vs has dtype {}, and '{}' in xs has {}.".format(
                    v.name, v.dtype.base_dtype.name, x.name, dtype.name
                )
            )
        directions.append(_of_shape(v, x, batch_axis))
    several = [v for v, x in zip(directions, xs) if are_several(v, x)]
    if len(several) not in (0, len(xs)):
        raise ValueError("vs has several vectors for some of xs, and one for others.")
    return directions


def are_several(v, x):
    """Whether `v` is several vectors for each observation of `x`: [N, V, *E]."""
    return v.shape.ndims == x.shape.ndims + 1


def _of_shape(v, x, batch_axis):
    """`v`, checked to be of the shape of `x`, or [N, V, *E]."""
    static, shape = x.shape.as_list(), tf.shape(x)
    if are_several(v, x):
        axis = batch_axis % len(static)
        order = [axis] + [a for a in range(len(static)) if a != axis]
        static = [static[axis], v.shape.as_list()[1]] + [static[a] for a in order[1:]]
        shape = tf.gather(shape, order)
        shape = tf.concat([shape[:1], tf.shape(v)[1:2], shape[1:]], 0)
    static = tf.TensorShape(static)
    if not static.is_compatible_with(v.shape):
        raise ValueError(
            "'{}' in vs has shape {}, and '{}' in xs has {}. Several vectors "
            "for each observation have an axis after N: [N, V, K].".format(
                v.name, v.shape, x.name, x.shape
            )
        )
    if not (static.is_fully_defined() and v.shape.is_fully_defined()):
        message = told("{} in vs has not the shape of {} in xs.")
        same = tf.debugging.assert_equal(
            tf.shape(v), shape, message=message.format(v.name, x.name)
        )
        with tf.control_dependencies([same]):
            v = tf.identity(v)
        v.set_shape(static)
    return v


def _check_coordinates(coordinates, xs, batch_axis):
    """Returns `coordinates` as a tuple of int, from 0 where K is known; or None.

    Args:
      coordinates: ints, along the coordinates of an observation; or None.
      xs: list of Tensors or Variables.
      batch_axis: int.

    Raises:
      TypeError: there is another thing than ints among them.
      ValueError: there are none, or one is out of range for an x.
    """
    if coordinates is None:
        return None
    if isinstance(coordinates, tf.Tensor):
        raise TypeError(
            "coordinates must be known when the graph is built: ints, not '{}'.".format(
                coordinates.name
            )
        )
    given = coordinates if hasattr(coordinates, "__iter__") else [coordinates]
    chosen = [int_of("each of coordinates", k) for k in given]
    if not chosen:
        raise ValueError("coordinates is an empty list.")
    for x in xs:
        shape = x.shape.as_list()
        del shape[batch_axis]
        size = None if None in shape else product_of(shape)
        wrong = [k for k in chosen if size is not None and not -size <= k < size]
        if wrong or size is None and min(chosen) < 0:
            raise ValueError(
                "coordinates={} does not fit '{}', whose observations have {} "
                "coordinates; count them from 0, in the order of a reshape to "
                "[N, K].".format(chosen, x.name, "unknown" if size is None else size)
            )
        if size is not None and min(chosen) < 0 and len(xs) == 1:
            chosen = [k % size for k in chosen]
    if min(chosen) < 0:
        raise ValueError(
            "coordinates={} must be counted from 0 where there are several xs.".format(
                chosen
            )
        )
    return tuple(chosen)


def _check_sparsity(request, xs, methods):
    """Returns a list with the `Pattern` of each of `xs`, or None."""
    if request.sparsity is None:
        if not request.dense:
            raise ValueError("dense=False needs sparsity, of which to answer entries.")
        return None
    if request.coordinates is not None:
        raise ValueError(
            "pass either sparsity or coordinates: leave the columns of other "
            "coordinates out of sparsity."
        )
    if request.method != "auto" and methods[request.method].colours is None:
        able = ["auto"] + [name for name, m in methods.items() if m.colours]
        raise ValueError(
            "sparsity needs method={}.".format(" or ".join(map(repr, able)))
        )
    return patterns(request.sparsity, xs)


def assert_same_observations(ys, x, layout, batch_axis):
    """Builds the check of N that only a run can make.

    Args:
      ys: list of Tensors.
      x: a Tensor or Variable.
      layout: the `Layout` of `x`.
      batch_axis: int, the observation axis of `x`.

    Returns:
      list of Operations that fail with InvalidArgumentError where the N of a y is not
      the N of `x`; empty where the graph has shown that they agree.
    """
    assertions = []
    expected, axis = x.shape.as_list()[batch_axis], batch_axis % x.shape.ndims
    for y in ys:
        found = _observations_of(y, axis)
        if not found or (expected is not None and expected in found):
            continue
        sizes = tf.gather(tf.shape(y), _observation_axes(y, axis))
        message = (
            "{} and {} differ in their number of observations. Sum {} to a scalar with "
            "tf.reduce_sum if it is no list of observations, or name the axis of {} "
            "with batch_axis. Its sizes, and N:"
        ).format(y.name, x.name, y.name, x.name)
        fits = tf.reduce_any(tf.equal(sizes, layout.num_observations))
        assertions.append(assert_that(fits, message, sizes, layout.num_observations))
    return assertions


def _list(tensors):
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


def _check_tensor(role, tensor):
    if is_eager(tensor) or (tf.executing_eagerly() and isinstance(tensor, Variable)):
        raise RuntimeError(
            "{} holds an eager tensor, and there is no graph to build in. Build "
            "the model in `with tf.Graph().as_default():` and run it in a Session, or "
            "call tf.compat.v1.disable_eager_execution() when the program "
            "starts.".format(role)
        )
    if not isinstance(tensor, (tf.Tensor, Variable)):
        raise TypeError(
            "{} must be a tf.Tensor or tf.Variable of the graph, or a list of "
            "such, not {} ({!r}).".format(role, type(tensor).__name__, tensor)
        )
    if not tensor.dtype.base_dtype.is_floating:
        raise TypeError(
            "'{}' in {} has dtype {}; derivatives need float16, bfloat16, float32 "
            "or float64. Cast it with tf.cast before the model uses it.".format(
                tensor.name, role, tensor.dtype.base_dtype.name
            )
        )


def _innermost_graph(tensors):
    graphs = [tensor.graph for tensor in tensors]
    innermost = max(graphs, key=lambda graph: len(outer_graphs(graph)))
    for tensor in tensors:
        if not any(tensor.graph is graph for graph in outer_graphs(innermost)):
            other = next(t for t in tensors if t.graph is innermost)
            raise ValueError(
                "'{}' and '{}' are of different graphs. Build both in one "
                "tf.Graph.".format(other.name, tensor.name)
            )
    return innermost


def _check_shape(x, batch_axis):
    rank = x.shape.ndims
    if rank is None:
        raise ValueError(
            "'{}' has unknown rank. Give it one with x.set_shape([None] * rank) before "
            "the model uses it; in a model from a file, by shapes= of batchhess.load "
            "(--shape).".format(x.name)
        )
    if rank == 0:
        raise ValueError(
            "'{}' is a scalar and has no observation axis. Use tf.hessians for it, "
            "or give it the shape [N].".format(x.name)
        )
    if not -rank <= batch_axis < rank:
        raise ValueError(
            "batch_axis={} is out of range for '{}' of shape {}; it must be in "
            "[{}, {}).".format(batch_axis, x.name, x.shape, -rank, rank)
        )


def _check_observations(y, x, batch_axis):
    expected = x.shape.as_list()[batch_axis]
    found = _observations_of(y, batch_axis % x.shape.ndims)
    if found and None not in found + [expected] and expected not in found:
        raise ValueError(
            "'{}' of shape {} and '{}' of shape {} differ in their number of "
            "observations. Sum '{}' to a scalar with tf.reduce_sum if it is no list of "
            "observations, or name the axis of '{}' with batch_axis.".format(
                y.name, y.shape, x.name, x.shape, y.name, x.name
            )
        )


def _check_outputs(ys, xs, batch_axis):
    y = ys[0]
    if len(ys) != 1 or not y.shape.ndims:
        raise ValueError(
            "per_output=True needs one y of shape [N, M], not {}.".format(
                ["'{}' {}".format(y.name, y.shape) for y in ys]
            )
        )
    _check_axis_0(y, xs, batch_axis, "per_output=True")


def _check_axis_0(y, xs, batch_axis, what):
    for x in xs:
        observations, expected = y.shape.as_list()[0], x.shape.as_list()[batch_axis]
        if None not in (observations, expected) and observations != expected:
            raise ValueError(
                "{} needs the {} observations of '{}' on axis 0 of '{}', of shape "
                "{}. Transpose it.".format(what, expected, x.name, y.name, y.shape)
            )


def _observation_axes(y, axis):
    """The axes along which `y` may hold its observations; none if it is a scalar."""
    # y is [N, ...], or laid out as x: for x [coefficients, N] y may be [samples, N].
    return sorted(a for a in {0, axis} if a < (y.shape.ndims or 0))


def _observations_of(y, axis):
    return [y.shape.as_list()[a] for a in _observation_axes(y, axis)]
