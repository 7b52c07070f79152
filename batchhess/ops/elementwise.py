"""Ops whose output at one place depends on the inputs at that place."""

from batchhess.compat import IS_V1, tf, where
from batchhess.graph.tensors import original, tensor_key
from batchhess.ops.inputs import BROADCAST, from_right, may_differ
from batchhess.ops.sizes import of_arithmetic, of_input
from batchhess.ops.softmax import logarithm, quotient
from batchhess.ops.softplus import IN_PARTS, WHOLE_SOFTPLUS
from batchhess.ops.states import (
    BATCHED,
    FREE,
    FREED,
    LOOSE,
    SUM,
    SUMMED,
    NotProvenError,
    alive_of,
    broadcast_state,
    need_each,
    rank_of,
)
from batchhess.ops.table import (
    ADDED,
    AFFINE,
    IN_EACH,
    MERGE,
    OF_COMPLEX,
    SCALED,
    SOUND,
    SUBTRACTED,
    UNKNOWN,
    YES,
    Fault,
    Guard,
    Rewrite,
    declared,
    no_gradient_by,
    op,
)


def elementwise(op, states, walk):
    """Elements that stand at the same place, after broadcasting, meet each other."""
    inputs = alive_of(op, states)
    kinds = {need_each(s).kind for _, s in inputs}
    if LOOSE in kinds:
        if len({s.origin for _, s in inputs} | kinds) > 2:
            raise NotProvenError(
                "combines elements whose observations are not followed"
            )
        return inputs[0][1]
    return broadcast_state(inputs, op.outputs[0].shape.ndims)


def additive(op, states, walk):
    """A sum of separable sums is one. Where x picks a branch, by steps only.

    So is a sum of elements that depend on one observation each, whichever they are.
    """
    if all(s.kind in (BATCHED, LOOSE) for _, s in alive_of(op, states)):
        try:
            return elementwise(op, states, walk)
        except NotProvenError:
            pass
    return SUMMED


def _merge(op, states, walk):
    return [additive(op, states, walk), FREED]


def _bias(op, states, walk):
    if states[1].kind != FREE:
        raise NotProvenError("adds a bias that depends on x")
    return SUMMED if states[0].kind == SUM else states[0]


def _bias_input(op, place, states, walk):
    """The bias lies along the last axis, or along axis 1."""
    output = walk.state(op.outputs[0])
    if op.type == "BiasAdd" and op.get_attr("data_format") == b"NCHW":
        along = 1
    else:
        along = rank_of(op.outputs[0]) - 1
    return 0 if output.axis == along else None


def _scaled(op, states, walk):
    """Of one input that is a sum, times what does not depend on x."""
    alive = [i for i, s in enumerate(states) if s.kind != FREE]
    if len(alive) == 1 and states[alive[0]].kind == SUM:
        return SUMMED
    return elementwise(op, states, walk)


def _divided(op, states, walk):
    if states[0].kind == SUM and states[1].kind == FREE:
        return SUMMED
    return elementwise(op, states, walk)


def _all_alike(op, place, states, walk):
    """As BROADCAST, but the op itself does not broadcast: 1 is N then."""
    output, tensor = walk.state(op.outputs[0]), op.inputs[place]
    if output.axis is None:
        raise may_differ()
    return from_right(tensor, rank_of(op.outputs[0]) - output.axis, may_be_one=False)


def _selected(op, place, states, walk):
    """Select's condition may be a vector, of one truth for each row."""
    output, tensor = walk.state(op.outputs[0]), op.inputs[place]
    if rank_of(tensor) == 1 != rank_of(op.outputs[0]):
        return 0 if output.axis == 0 else None
    return _all_alike(op, place, states, walk)


_EACH = {"elementwise": True, "twice": SOUND}
_REAL = dict(_EACH, faults=[OF_COMPLEX])

op(
    """Abs Acos Acosh Asin Asinh Atan Atan2 Atanh Cos Cosh Digamma Div Elu
    Erf Erfc Exp Expm1 Inv LeakyRelu Lgamma Maximum Minimum Pow Reciprocal
    Relu Relu6 Rsqrt Selu Sin Sinh Softplus Sqrt Square Tan Tanh""",
    elementwise,
    BROADCAST,
    **_EACH,
)

# TensorFlow 1.15 has a quotient of polynomials for it, which is no more exact.
op("Sigmoid", elementwise, BROADCAST, **_EACH)
op("Log", elementwise, BROADCAST, **_EACH, guard=IN_PARTS, parts=logarithm)
op("Log1p", elementwise, BROADCAST, **_EACH, guard=IN_PARTS)
op(
    "ClipByValue",
    elementwise,
    BROADCAST,
    elementwise=True,
    twice=UNKNOWN if IS_V1 else SOUND,  # 1.15 has no gradient of it.
)

# Gradients of such ops, in terms of f that are gradients themselves.
op(
    """EluGrad InvGrad LeakyReluGrad ReciprocalGrad Relu6Grad ReluGrad RsqrtGrad
    SeluGrad SigmoidGrad SoftplusGrad SqrtGrad TanhGrad""",
    elementwise,
    BROADCAST,
    **_REAL,
)

op(
    """BesselI0e BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK0e BesselK1 BesselK1e
    BesselY0 BesselY1 Dawsn Erfinv Expint FresnelCos FresnelSin Igamma Igammac Ndtri
    Spence""",
    elementwise,
    BROADCAST,
    **_EACH,
)
op(
    "BesselI0 BesselI1",
    elementwise,
    BROADCAST,
    **_EACH,
    # The slope of I1 is 1/2 there, and TensorFlow says 1.
    guard=Guard("Write its series near zero: 1 + x**2 / 4 for I0, x / 2 for I1."),
)
op("FloorMod", elementwise, BROADCAST, **_EACH, elements=of_arithmetic)
# TensorFlow has no second derivative of these, or none that a test has seen.
op("Mod SoftsignGrad TruncateDiv", elementwise, BROADCAST, elementwise=True)

# No tangent is complex: these are not applied to blocks.
op("Complex Conj Imag Real", elementwise, twice=SOUND)
op(
    "ComplexAbs",
    elementwise,
    twice=SOUND,
    guard=Guard("Write the square of it as tf.square(real) + tf.square(imaginary)."),
)

_SIZES = {"elements": of_arithmetic}


op(
    "Add AddV2",
    additive,
    BROADCAST,
    YES,
    ADDED,
    **_EACH,
    **_SIZES,
    rewrites=[WHOLE_SOFTPLUS],
)
op("AddN", additive, _all_alike, YES, ADDED, **_EACH)
op("BiasAdd BiasAddV1", _bias, _bias_input, YES, ADDED, **_EACH)
# Linear but for the branch that does not depend on x.
op("Select", additive, _selected, AFFINE, **_EACH)
op("SelectV2", additive, BROADCAST, AFFINE, **_EACH)
op("Merge", _merge, twice=SOUND, frame=MERGE)
op("RefMerge", _merge, frame=MERGE)
op("Mul", _scaled, BROADCAST, IN_EACH, SCALED, **_EACH, **_SIZES)
op("RealDiv", _divided, BROADCAST, 0, SCALED, **_EACH, parts=quotient)
op("MulNoNan", _divided, BROADCAST, 0, SCALED, **_REAL)
op(
    "DivNoNan",
    _divided,
    BROADCAST,
    0,
    SCALED,
    **_EACH,
    # All derivatives of it are 0 there, whatever it is near by.
    guard=Guard("Write x / y, and keep y from zero.", place=1),
)
op("Neg", _scaled, BROADCAST, YES, SCALED, **_EACH)
op("Cast", _scaled, BROADCAST, YES, **_EACH, elements=of_input)


# What TensorFlow differentiates wrongly.


def _is_moments(op, depends):
    """tf.nn.moments: the mean of squares around a stopped mean of the same tensor."""
    is_real = not op.inputs[0].dtype.is_complex  # Else it is not the square.
    return is_real and _is_around_its_mean(op) and depends([op.inputs[0]])


def _is_around_its_mean(op):
    stop = op.inputs[1].op
    if not declared(stop).stops or stop.inputs[0].op.type != "Mean":
        return False
    return tensor_key(stop.inputs[0].op.inputs[0]) == tensor_key(op.inputs[0])


def _is_gradient_of_moments(op, depends):
    """The same difference in a gradient of tf.nn.moments, which is a term of f."""
    return _is_moments(op, depends) and is_mean_of_moments(op.inputs[1].op)


def is_mean_of_moments(stop):
    """Whether an op that stops a derivative stops the mean inside tf.nn.moments."""
    # Of a copy: what reads only the original may tell, if nothing else was copied.
    readers = [r for s in {stop, original(stop)} for r in s.outputs[0].consumers()]
    return any(
        r.type == "SquaredDifference" and _is_around_its_mean(r) for r in readers
    )


def _unstopped_difference(op):
    values, mean = op.inputs[0], op.inputs[1].op.inputs[0].op
    # Not the mean of the model: were that fed, all values would be as they are, and the
    # derivatives another function's. As it is, the check of the copy sees the feed.
    return [values - tf.reduce_mean(values, mean.inputs[1], mean.get_attr("keep_dims"))]


def _unstopped(op):
    """tf.nn.moments: the same with the mean not stopped."""
    return [tf.square(difference) for difference in _unstopped_difference(op)]


def stopped_mean(holds):
    """The fault of what `holds` the mean of tf.nn.moments constant."""
    return Fault(
        holds,
        "holds the mean constant, as tf.nn.moments tells it to, which is right for "
        "the first derivative of the variance but not for the second",
        "Use tf.math.reduce_variance, or tf.reduce_mean(tf.square(y - mean)).",
        spoils_values=True,
    )


op(
    "Sub",
    additive,
    BROADCAST,
    YES,
    SUBTRACTED,
    **_EACH,
    **_SIZES,
    # The gradient of a gradient, such as an author computes his own by.
    faults=[stopped_mean(_is_gradient_of_moments)._replace(wrong_once=True)],
    rewrites=[Rewrite(_is_gradient_of_moments, _unstopped_difference), WHOLE_SOFTPLUS],
)
op(
    "SquaredDifference",
    elementwise,
    BROADCAST,
    **_EACH,
    faults=[OF_COMPLEX, stopped_mean(_is_moments)],
    rewrites=[Rewrite(_is_moments, _unstopped)],
)


def _always(op, depends):
    return True


def _first_depends(op, depends):
    return depends([op.inputs[0]])


def _first_is_real(op, depends):
    return _first_depends(op, depends) and not OF_COMPLEX.holds(op, depends)


def _softsign(op):
    return [op.inputs[0] / (1 + tf.abs(op.inputs[0]))]


def _x_log_y(op):
    """x log y, whose derivative by x does not break off at x = 0."""
    x, y = op.inputs
    shift = 1 if op.type == "Xlog1py" else 0
    # Where both are zero it stays a constant 0, as TensorFlow has it.
    both = tf.logical_and(tf.equal(x, 0), tf.less_equal(y + shift, 0))
    y = where(both, tf.ones_like(x * y) - shift, y + tf.zeros_like(x))
    return [x * (tf.math.log1p(y) if shift else tf.math.log(y))]


def _x_div_y(op):
    """x / y, whose derivatives by x and y do not break off at x = 0."""
    x, y = op.inputs
    # Where both are zero it stays a constant 0, as TensorFlow has it.
    both = tf.logical_and(tf.equal(x, 0), tf.equal(y + tf.zeros_like(x), 0))
    return [x / where(both, tf.ones_like(x * y), y + tf.zeros_like(x))]


op(
    "Softsign",
    elementwise,
    BROADCAST,
    **_EACH,
    rewrites=[Rewrite(_always, _softsign)],
)
op(
    "Xlogy",
    elementwise,
    BROADCAST,
    **_REAL,
    rewrites=[Rewrite(_first_is_real, _x_log_y)],
    guard=Guard("Write x * tf.math.log(y), and keep y from zero."),
)
op(
    "Xlog1py",
    elementwise,
    BROADCAST,
    **_REAL,
    rewrites=[Rewrite(_first_is_real, _x_log_y)],
    guard=Guard("Write x * tf.math.log1p(y), and keep y from -1."),
)
op(
    "Xdivy",
    elementwise,
    BROADCAST,
    **_REAL,
    rewrites=[Rewrite(_first_is_real, _x_div_y)],
    guard=Guard("Write x / y, and keep y from zero."),
)


op(
    "Betainc",
    elementwise,
    BROADCAST,
    **_EACH,
    faults=[no_gradient_by(0, 1, of="a and b")],
)
op(
    "Polygamma Zeta",
    elementwise,
    BROADCAST,
    **_EACH,
    faults=[no_gradient_by(0, of="its first argument")],
)
