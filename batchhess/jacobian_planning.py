"""The plan of a Jacobian: all that is decided about it, decided once."""

import collections

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.memory import readers
from batchhess.analysis.partition import NoPartitionError
from batchhess.analysis.proof import walk_from
from batchhess.analysis.region import Region
from batchhess.compat import tf, where_built
from batchhess.errors import SecondDerivativeError
from batchhess.graph.layout import Layout
from batchhess.graph.tensors import name_of, original
from batchhess.methods import JACOBIAN_METHODS
from batchhess.ops.states import UNPROVEN
from batchhess.ops.table import EXIT, NEXT, declared
from batchhess.rewriting import correct, take_apart
from batchhess.sparsity import Compressed, assert_fits, too_coarse
from batchhess.tangent_planning import assert_can_be_pushed, block_of, way_to
from batchhess.variables import read_once

# What the run checks. coupling: bool, whether y[n] depends on x[n] alone. differences:
# bool, whether the Jacobian is held against differences of y. suspects: list of the
# Operations for which. readers, pattern: as for a Hessian.
Checks = collections.namedtuple(
    "Checks", "coupling guarded differences suspects readers pattern"
)


class JacobianPlan(
    collections.namedtuple(
        "JacobianPlan",
        "request x compressed ys stands_for layout outputs walk is_zero method parts "
        "block lost unrolled checks refusal",
    )
):
    """What will be built for one x, and why.

    Attributes:
      request: the `Request`.
      x: a Tensor or Variable.
      compressed: dict from the method to the `Compressed` pattern of the entries that
        are wanted, as it would answer it; empty where all are wanted.
      ys: list with a Tensor of the values of the request's y, corrected.
      stands_for: dict, as of a `Plan`.
      layout: the `Layout` of `x`.
      outputs: the `Layout` of y, whose size is M.
      walk: the `Walk` from `x`; None where y does not depend on it.
      is_zero: bool, whether y does not depend on `x`.
      method: the name of the method to take.
      parts: pair of the list with y in elementary ops, and its `Partition`; or None.
      block: int, the observations to work on at a time; None for all at once.
      lost: the `NoPartitionError` that tells why there is no partition, or None.
      unrolled: bool, whether passes are built one by one: a loop of control flow v1 is
        in the way, through which no pass inside another loop can go.
      checks: `Checks`.
      refusal: the exception to raise instead of building; None if there is none.
    """

    @property
    def state(self):
        """The `State` of y; None where it does not depend on `x`."""
        return self.walk and self.walk.state(self.ys[0])

    @property
    def is_followed(self):
        """Whether the graph tells that index n of y's axis 0 is observation n alone."""
        return self.state.is_own and self.state.axis == 0

    @property
    def is_moved(self):
        """As of a `Plan`."""
        return bool(self.checks.differences)

    @property
    def is_linear(self):
        """Whether nothing is built from the model: `building` asks."""
        return self.is_zero


def plan(request, x, pattern=None):
    """Decides how to differentiate the one y of `request` by `x`; builds one gradient.

    Args:
      request: the `Request`, checked.
      x: a Tensor or Variable.
      pattern: the `Pattern` of the entries that are wanted; None for all.

    Returns:
      a `JacobianPlan`.
    """
    stands_for = {}
    ys, (x,) = read_once(request.ys, [x], stands_for)
    if request.check != "never":
        ys = correct(ys, [x], stands_for)
    layout = Layout(x, request.batch_axis)
    region = Region(ys, x)
    made = JacobianPlan(
        request=request,
        x=x,
        compressed={},
        ys=ys,
        stands_for=stands_for,
        layout=layout,
        outputs=Layout(ys[0], 0),
        walk=None,
        is_zero=False,
        method=None,
        parts=None,
        block=None,
        lost=None,
        unrolled=any(declared(op).frame in (EXIT, NEXT) for op in region.ops),
        checks=Checks(False, [], False, [], [], None),
        refusal=None,
    )
    if pattern is not None:
        assert_fits(pattern, made.outputs.size, layout.size, [request.ys[0], x])
        made = made._replace(compressed=_each_compressed(pattern))
    wrong, findings = audit.audit_once(region)
    wrong = [] if request.check == "never" else wrong
    refused = audit.refusal(wrong, x, "derivative", "tf.gradients")
    if refused is not None:
        return made._replace(refusal=refused)
    if request.passes.gradient(ys, x) is None:
        return _unconnected(made, region)
    walk = walk_from(x, layout.axis)
    made = _with_method(made._replace(walk=walk), region)
    if made.refusal is None and request.check != "never":
        made = made._replace(refusal=_axis_refusal(made))
    return _with_checks(made, region, findings)


def _each_compressed(pattern):
    return {
        name: Compressed(pattern, method.colours(pattern))
        for name, method in JACOBIAN_METHODS.items()
        if method.colours
    }


def compressed_of(made):
    """The `Compressed` for the method that is taken, or None."""
    return made.compressed.get(made.method or "reverse")


def _unconnected(made, region):
    """Zeros, or the refusal, where there is no gradient."""
    if region.depends(made.ys):
        return made._replace(refusal=audit.lost("gradient", made.ys, made.x))
    given, zero = made.request.ys, tf.UnconnectedGradients.ZERO
    # What depends on x may add nothing, as a product of no factors.
    depends = made.ys is not given and Region(given, made.x).depends(given)
    if depends or made.request.unconnected_gradients == zero:
        return made._replace(is_zero=True)
    return made._replace(refusal=arguments.not_connected(given, made.x))


def _with_method(made, region):
    """Chooses the method, with a partition if it goes block by block."""
    compiled = made.request.passes.jit_compile
    names = _names(made)
    if compiled and not JACOBIAN_METHODS[names[0]].compiles:
        return made._replace(method=names[0], refusal=_cannot_compile())
    for name in names:
        made = made._replace(method=name)
        if not (compiled or JACOBIAN_METHODS[name].by_blocks):
            return made._replace(refusal=_loop_refusal(made))
        try:
            made = made._replace(parts=_parts(made, region), lost=None)
            count, (_, parts) = columns_of(made), made.parts
            block = block_of(made.x, count, made.layout, parts, compiled)
            return made._replace(block=block)
        except NoPartitionError as error:
            made = made._replace(lost=error)
    return made._replace(refusal=_not_followed(made))


def _names(made):
    """The methods to try, the best one first.

    Forward carries C tangents, and reverse takes M passes; a tangent costs no more than
    a pass.
    """
    if made.request.method != "auto":
        return (made.request.method,)
    count, outputs = columns_of(made), made.outputs.size
    if made.compressed:
        count, outputs = (made.compressed[n].passes for n in ("forward", "reverse"))
    known = isinstance(count, int) and isinstance(outputs, int)
    if known and 0 < count <= outputs:
        return "forward", "reverse"
    return ("reverse",)


def columns_of(made):
    """C, the columns that the method answers."""
    if made.method == "forward" and made.compressed:
        return compressed_of(made).passes
    chosen = made.request.coordinates
    return made.layout.size if chosen is None else len(chosen)


def _parts(made, region):
    """The list with y in elementary ops, and the `Partition` from x to it."""
    if made.state.kind == UNPROVEN:
        raise NoPartitionError(made.state.op, made.state.reason)
    apart, is_forward = made.ys, made.method == "forward"
    if is_forward:
        apart = take_apart(made.ys, made.x, made.stands_for)
    if apart is not made.ys:
        region = Region(apart, made.x)
    found = way_to(apart[0], made.x, made.walk, made.layout.axis)
    if is_forward:
        assert_can_be_pushed(found, region)
    return apart, found


def _axis_refusal(made):
    """The refusal where axis 0 of y does not hold the observations, or None."""
    state = made.state
    if made.is_followed or not state.is_own:
        return None  # Proven to be right, or checked in each run.
    y = made.request.ys[0]
    return ValueError(
        "axis 0 of '{}', of shape {}, must hold the observations of '{}', which are on "
        "axis {}. Transpose it.".format(y.name, y.shape, name_of(made.x), state.axis)
    )


def _loop_refusal(made):
    """The refusal where passes can neither be counted nor looped over, or None."""
    count = compressed_of(made).passes if made.compressed else made.outputs.size
    if not JACOBIAN_METHODS[made.method].needs_separable:
        count *= made.layout.num_observations
    if not made.unrolled or isinstance(count, int):
        return None
    return ValueError(
        "a while loop of control flow v1 is between '{}' and '{}', so the passes "
        "through it are built one by one, and the graph does not tell how many. Call "
        "tf.compat.v1.enable_control_flow_v2() before the loop is built, or give '{}' "
        "its shape.".format(name_of(made.x), made.request.ys[0].name, name_of(made.x))
    )


def _with_checks(made, region, findings):
    request, method = made.request, JACOBIAN_METHODS[made.method]
    if request.check == "never" or made.refusal is not None:
        return made
    faults = [op for _, op in findings.faults]
    suspects = list(dict.fromkeys(faults + findings.unknown + findings.guarded))
    is_exact = made.is_followed or not method.needs_separable
    found = compressed_of(made)
    checks = Checks(
        coupling=not is_exact,
        guarded=findings.told,
        differences=request.check == "always" or bool(suspects),
        suspects=suspects,
        readers=readers(region.ops),
        pattern=found and found.precision_in(region.ops, made.x),
    )
    refused = checks.pattern and too_coarse(checks.pattern)
    made = made._replace(checks=checks, refusal=refused or None)
    if suspects and not (made.is_followed or checks.coupling):
        why = "observations may be coupled, which differences cannot tell apart."
        return made._replace(refusal=not_seen(made, why))
    return made


def not_seen(made, why):
    op = original(made.checks.suspects[0])
    return SecondDerivativeError(
        "TensorFlow's derivative of '{}' ({}){} is not known to be right here, and the "
        "runs cannot verify it: {} Pass check='never' to trust it.".format(
            op.name, op.type, where_built(op), why
        )
    )


def _cannot_compile():
    names = [repr(name) for name, m in JACOBIAN_METHODS.items() if m.compiles]
    return ValueError("jit_compile=True needs method={}.".format(" or ".join(names)))


def _not_followed(made):
    request, op = made.request, made.lost.op and original(made.lost.op)
    asked = "jit_compile=True"
    if not request.passes.jit_compile:
        asked = "method={!r}".format(made.method)
    return ValueError(
        "{} cannot follow the observations of '{}': {} {}. Pass method='reverse' "
        "alone; where observations are coupled, method='observations'.".format(
            asked,
            name_of(made.x),
            "it" if op is None else "'{}' ({})".format(op.name, op.type),
            made.lost.reason,
        )
    )
