"""The audit: reads the graph for second derivatives that TensorFlow may get wrong."""

import collections

from batchhess.analysis.assigned import read_back
from batchhess.analysis.region import Region, moving_in_calls
from batchhess.calling import assert_that, caller, takes
from batchhess.compat import (
    control_flow_context,
    gradient_is_none,
    has_gradient_of_another_process,
    is_made_by_custom_gradient,
    ops_differentiated,
    tf,
)
from batchhess.errors import SecondDerivativeError, UndefinedDerivativeError
from batchhess.graph.tensors import (
    has_custom_gradient,
    held_by,
    name_of,
    original,
    placed,
    tensor_key,
)
from batchhess.ops.elementwise import is_mean_of_moments, stopped_mean
from batchhess.ops.flow import STACK_POP, bodies
from batchhess.ops.table import (
    EXIT,
    NEXT,
    UNKNOWN,
    Fault,
    declared,
    no_gradient_by,
    zeros_of,
)

# faults: list of (`Fault`, Operation). unknown: list of the Operations whose second
# derivative no test has seen. guarded: list of those that are right but at zeros, and
# told: of those whose gradient is right but at zeros.
Findings = collections.namedtuple("Findings", "faults unknown guarded told")


def audit(ys, region, gradient, x):
    """Reads the region of `x` for what TensorFlow differentiates wrongly.

    Args:
      ys: list of Tensors.
      region: the `Region` between `x` and `ys`.
      gradient: Tensor, the gradient of `ys` with respect to `x`.
      x: a Tensor or Variable.

    Returns:
      `Findings`.
    """
    behind = Region([gradient], x)
    faults = _loops(region, behind, gradient, x)
    faults += lost_in(behind) + _kept_means(region)
    faults += [(f, op) for f, op in lost_in(region) if not declared(op).python]
    found = _by_the_table(region.as_differentiated())
    faults += _not_by_some(found.unknown, region.depends) + _read_back(region)
    if with_authors_gradient(region):
        # What an author computes his gradient by is differentiated once.
        once = _by_the_table(behind.as_differentiated())
        faults += [(fault, op) for fault, op in once.faults if fault.wrong_once]
        found = found._replace(told=list(dict.fromkeys(found.told + once.told)))
    return found._replace(faults=faults + found.faults)


def audit_once(region):
    """Reads the `Region` of x for what TensorFlow may differentiate wrongly once.

    What is wrong for certain are ops whose gradient TensorFlow takes for None, or that
    the table says so of, and gradients of loops of control flow v1, which no edge joins
    to what they are of. An op that is not known to be right twice may be right once:
    that is for a run to tell.

    Returns:
      a list of (`Fault`, Operation), those that are wrong; and `Findings`.
    """
    pops = [(LOOP, op) for op in region.above if op.type in STACK_POP]
    numbered = foreign(region)
    found = _by_the_table(region.as_differentiated())
    known = [(fault, op) for fault, op in found.faults if fault.wrong_once]
    known += _not_by_some(found.unknown, region.depends) + _read_back(region)
    return lost_in(region) + pops + numbered + known, found


def lost_in(region):
    """The ops of a `Region` whose gradient TensorFlow takes for None, as faults."""
    region = region.as_differentiated()
    return [(LOST, op) for op, _, _ in _with_bodies(region) if _is_lost(op)]


def _is_lost(op):
    """Whether TensorFlow takes the gradient of `op` for None, as that of integers."""
    is_integer = op.inputs and op.inputs[0].dtype.base_dtype.is_integer
    return gradient_is_none(op) or bool(declared(op).bits and is_integer)


def _not_by_some(ops, depends):
    """Faults of those of `ops` of which an input that depends on x has no gradient.

    Of ops that are not declared: what TensorFlow answers None for tells it. Differences
    of the gradient cannot.
    """
    found = []
    for op in ops:
        holds_lists = any(t.dtype == tf.variant for t in op.outputs)
        if declared(op).type is None and _can_be_read(op) and not holds_lists:
            ys, alive = (
                [t for t in tensors if t.dtype.base_dtype.is_floating]
                for tensors in (op.outputs, filter(lambda t: depends([t]), op.inputs))
            )
            try:
                slopes = tf.gradients(ys, alive, stop_gradients=alive)
            except Exception:  # It is told where f is differentiated.
                continue
            for given, slope in zip(alive, slopes):
                if slope is None:
                    place = [tensor_key(t) for t in op.inputs].index(tensor_key(given))
                    found.append((no_gradient_by(place), op))
    return found


def _read_back(region):
    return [(_THROUGH_VARIABLE, op) for op in read_back(region)]


_THROUGH_VARIABLE = Fault(
    None,
    "reads a variable that this run has given a value that depends on it",
    "Use that value itself instead of the variable.",
    spoils_values=True,
)


def with_authors_gradient(region):
    """The ops of a `Region`, those inside functions too, with an author's gradient."""
    return [op for op, _, _ in _with_bodies(region) if _has_authors_gradient(op)]


def foreign(region):
    """The ops of a `Region` whose gradient has but another process's number: faults."""
    return [
        (_FOREIGN, op)
        for op, _, call in _with_bodies(region)
        if _has_authors_gradient(op)
        and has_gradient_of_another_process(original(op), original(call))
    ]


def loops_in(region):
    """The ends of the loops of control flow v1 in a `Region`, as faults."""
    return [(LOOP, op) for op in region.ops if declared(op).frame == EXIT]


def _by_the_table(region):
    """The `Findings` that the table of ops has for those of `region`."""
    faults, unknown, guarded, told = [], [], [], []
    for op, depends, _ in _with_bodies(region):
        known = declared(op)
        faults += [(f, op) for f in known.faults if f.holds(op, depends)]
        if known.twice == UNKNOWN and not has_custom_gradient(op):
            unknown.append(op)
        if _is_guarded(op, depends):
            if _can_be_read(op):
                (told if known.guard.wrong_once else guarded).append(op)
            elif not known.guard.convention:
                does = _UNGUARDED.does.format(known.guard.why)
                faults.append((_UNGUARDED._replace(does=does), op))
    return Findings(faults, list(dict.fromkeys(unknown)), guarded, told)


def can_be_followed(op, depends):
    """Whether the derivatives of gradients of `op` are right, as tangents need them."""
    known = declared(op)
    holds = any(fault.holds(op, depends) for fault in known.faults)
    doubtful = _is_guarded(op, depends) and not known.guard.wrong_once
    return known.twice != UNKNOWN and not doubtful and not holds


def _is_guarded(op, depends):
    """Whether `op` may be wrong at a zero, of an input that depends on x."""
    guard = declared(op).guard
    return guard is not None and depends([op.inputs[guard.place]]) and guard.holds(op)


def _can_be_read(op):
    """Not from inside a function or a branch of control flow v1."""
    return op.graph is tf.get_default_graph() and control_flow_context(op) is None


def _with_bodies(region, call=None):
    """The ops of the region, those inside functions included.

    Yields:
      an Operation; the `depends` of where it is; and the outermost op that calls it, or
      itself.
    """
    for op in region.ops:
        yield op, region.depends, call or op
        for graph, local_xs in moving_in_calls(op, region.depends):
            inner = Region(list(graph.outputs), local_xs)
            is_plain = region.left_out is None
            inner = inner if is_plain else inner.as_differentiated()
            yield from _with_bodies(inner, call or op)


# From the least precise on. A complex number is as precise as its parts.
_PRECISIONS = [tf.bfloat16, tf.float16, tf.float32, tf.float64]
_PARTS = {tf.complex64: tf.float32, tf.complex128: tf.float64}


def precision_in(tensors, *xs):
    """The dtype of the least precise that is between `xs` and a list of Tensors."""
    ops = [op for op, _, _ in _with_bodies(Region(tensors, xs))]
    between = [*xs, *tensors] + [t for op in ops for t in op.outputs]
    dtypes = [t.dtype.base_dtype for t in between]
    places = [
        _PRECISIONS.index(d)
        for d in (_PARTS.get(d, d) for d in dtypes)
        if d in _PRECISIONS
    ]
    return _PRECISIONS[min(places)]


def _loops(region, behind, gradient, x):
    loops = [op for op in region.ops if declared(op).frame in (EXIT, NEXT)]
    if not loops:
        return []
    reads_values = any(op.type in STACK_POP for op in behind.above)
    reads_results = any(declared(op).frame in (EXIT, NEXT) for op in behind.ops)
    loops.sort(key=lambda op: declared(op).frame != EXIT)  # Results first.
    return [(LOOP, loops[0])] if reads_values or reads_results else []


LOOP = Fault(
    None,
    "leaves out what goes through a while loop of control flow v1",
    "Call tf.compat.v1.enable_control_flow_v2() before the loop is built, or build it "
    "inside a tf.function.",
    spoils_values=True,
)


def _kept_means(region):
    """Means of tf.nn.moments in the lists that a loop keeps for its gradient in f."""
    inside, found = set(region.ops), []
    for op in region.ops:
        body = bodies(op)[1] if "body" in declared(op).calls else None
        if body is None:
            continue
        for output, kept in zip(op.outputs, body.outputs):
            if kept.dtype == tf.variant and not inside.isdisjoint(output.consumers()):
                found += [t.op for t in kept.op.inputs if _is_stopped_mean(t.op)]
    return [(_KEPT, op) for op in found]


def _is_stopped_mean(op):
    return declared(op).stops and is_mean_of_moments(op)


_KEPT = stopped_mean(None)._replace(
    does="holds the mean constant, as tf.nn.moments tells it to, in a gradient of a "
    "loop that is a term of f",
)

LOST = Fault(
    None,
    "leaves this op out, whose gradient it takes for None",
    "Write that part of the graph with ops that TensorFlow differentiates twice, or "
    "declare it constant with tf.stop_gradient.",
)

_FOREIGN = Fault(
    None,
    "takes its author's gradient, which is Python and not in the file that it is from, "
    "for the one of this process that has the same number",
    "Where the model is written, give that gradient a name, by @tf.RegisterGradient "
    "and gradient_override_map, and define it here too; or pass check='never' if this "
    "process has written the model.",
    spoils_values=True,
)

_UNGUARDED = Fault(
    None,
    "is wrong where it has {}, which cannot be checked inside a function or a branch",
    "Build this op outside of it.",
)


def refusal(faults, x, derivative="second derivative", too="tf.hessians"):
    """The SecondDerivativeError for the first of `faults`; None if there is none."""
    if not faults:
        return None
    fault, op = faults[0]
    held = held_by(op)
    held = " It is not built again because of {}.".format(placed(held)) if held else ""
    return SecondDerivativeError(
        "the {} with respect to '{}' is wrong in TensorFlow at {}: it {}, in {} too.{} "
        "{}".format(
            derivative, name_of(x), placed(op), fault.does, too, held, fault.cure
        )
    )


def guards(guarded, weight_of=None):
    """Builds checks for what TensorFlow gets wrong at zeros only.

    Args:
      guarded: list of Operations.
      weight_of: function from a Tensor of the model to the gradient of f by it, if that
        does not depend on x; else to None. None where f is not one number.

    Returns:
      list of Operations that fail with InvalidArgumentError where what guards one of
      `guarded` has a zero.
    """

    def fits(op):
        fit = tf.not_equal(zeros_of(op), 0)
        is_weighed = declared(op).guard.weighed and weight_of is not None
        weight = weight_of(op.outputs[0]) if is_weighed else None
        return fit if weight is None else fit | tf.equal(weight, 0)

    return [
        assert_that(
            tf.reduce_all(fits(op)),
            "{} has {}, where TensorFlow's {} is wrong. {}".format(
                placed(op, ""),
                declared(op).guard.why,
                "gradient" if declared(op).guard.wrong_once else "second derivative",
                declared(op).guard.cure,
            ),
        )
        for op in guarded
    ]


def lost(what, ys, x):
    """The error for a None of tf.gradients although `ys` depend on `x`.

    Args:
      what: str, which derivative.
      ys: list of Tensors.
      x: a Tensor or Variable.

    Returns:
      a SecondDerivativeError that names the ops without a gradient, nearest `x`.
    """
    culprits = [original(op) for op in Region(ys, x).ops if _is_lost(op)][-3:]
    names = ", ".join("'{}' ({})".format(op.name, op.type) for op in culprits)
    return SecondDerivativeError(
        "the {} with respect to '{}' is lost {}. TensorFlow answers None there, "
        "although '{}' depends on '{}': it is not zero. {}".format(
            what,
            name_of(x),
            "at " + names if names else "on the way",
            ys[0].name,
            name_of(x),
            LOST.cure,
        )
    )


def _has_authors_gradient(op):
    """Whether its author's function differentiates `op`: that of a call never is."""
    return has_custom_gradient(op) and not declared(op).calls


# How TensorFlow begins to say that there is no gradient.
_NOT_THERE = ("No gradient defined", "gradient registry has no entry")
_NOT_CAPTURED = "Attempting to capture tensor"


def undefined(error):
    """The error for what tf.gradients raises where a gradient is missing or fails.

    What a gradient of a user's own raises is his to see as it is.

    Args:
      error: the Exception.

    Returns:
      an UndefinedDerivativeError; None if `error` is of another kind.
    """
    ops = ops_differentiated(error)
    if not ops or isinstance(error, SecondDerivativeError):
        return None
    # A KeyError is a LookupError too; and a gradient that is there may raise either.
    is_missing = type(error) is LookupError and not _has_authors_gradient(ops[-1])
    # As that of tf.recompute_grad does of itself.
    is_missing = is_missing or isinstance(error, NotImplementedError)
    lost = ops[-1].node_def.attr["_gradient_op_type"].s.decode()
    if str(error).startswith(_NOT_THERE) and lost:
        return UndefinedDerivativeError(
            "{} has a gradient of its author's own, '{}', which is Python, and is not "
            "in the file that the model is from. Define it again, before the model is "
            "loaded: @tf.RegisterGradient('{}').".format(placed(ops[-1]), lost, lost)
        )
    inside = ["'{}' ({}) in ".format(op.name, op.type) for op in ops[:0:-1]]
    if str(error).startswith(_NOT_CAPTURED) and is_made_by_custom_gradient(ops[-1]):
        return UndefinedDerivativeError(
            "this TensorFlow cannot differentiate {}: a tf.custom_gradient inside a "
            "loop reads tensors of its first pass. Give that gradient a name, by "
            "@tf.RegisterGradient and gradient_override_map, and let it read the "
            "inputs and outputs of its op.".format("".join(inside) + placed(ops[0]))
        )
    if not is_missing and any(map(_has_authors_gradient, ops)):
        return None
    why = str(error) or "its gradient fails"
    if why.startswith(_NOT_THERE):  # It goes on about registering one.
        why = "no gradient is defined for it"
    cure = "Write that part of the model with other ops"
    others = "jacobians", "hessian_vector_products"
    if takes("method") and caller() not in others:
        cure += (
            "; or, if only its second derivative is missing, pass "
            "method='differences', which takes differences of the gradient"
        )
    return UndefinedDerivativeError(
        "TensorFlow cannot differentiate {}: {}. {}.".format(
            "".join(inside) + placed(ops[0]), why.rstrip(". \n"), cure
        )
    )
