"""The plan: all that is decided about the Hessians by one x, decided once."""

import collections

from batchhess import arguments
from batchhess.analysis.audit import (
    Findings,
    audit,
    foreign,
    lost,
    refusal,
    with_authors_gradient,
)
from batchhess.analysis.memory import readers
from batchhess.analysis.moving import kept_by_loops
from batchhess.analysis.partition import NoPartitionError, partition
from batchhess.analysis.proof import prove, walk_from
from batchhess.analysis.region import Region
from batchhess.analysis.values import value_region
from batchhess.compat import source_tensor, tf
from batchhess.graph.layout import Layout
from batchhess.graph.tensors import name_of, original, placed, tensor_key
from batchhess.methods import AUTO, METHODS, methods_for
from batchhess.methods.blocks import block_size, widest
from batchhess.ops.states import SUM, UNPROVEN
from batchhess.problem import WHOLE
from batchhess.product_planning import (
    method_of_product,
    of_product,
    with_way_of_vectors,
)
from batchhess.rewriting import correct, take_apart
from batchhess.sparsity import Compressed, assert_fits, assert_symmetric, too_coarse
from batchhess.tangent_planning import FEW
from batchhess.variables import read_once

# What the run checks. coupling: bool, whether observations meet. guarded: list of
# Operations that are wrong at zeros. differences: bool, whether Hessians are held
# against differences of the gradient. unknown: list of the Operations for which.
# symmetry: bool, whether Hessians must be symmetric, or the gradient itself is wrong.
# readers: list of the Operations that read what an assignment of the same run changes.
# pattern: the name of the least precise dtype, where entries outside of a pattern that
# was given are checked to be zero; else None.
Checks = collections.namedtuple(
    "Checks", "coupling guarded differences unknown symmetry readers pattern"
)


class Plan(
    collections.namedtuple(
        "Plan",
        "request x direction compressed ys corrected stands_for layout walk proof "
        "gradient is_linear findings method parts block lost checks refusal",
    )
):
    """What will be built for one x, and why.

    Attributes:
      request: the `Request`; what it wants are entries, where it tells which.
      x: a Tensor or Variable.
      direction: Tensor to multiply by, for a product; else None.
      compressed: the `Compressed` pattern of the entries that are wanted; or None.
      ys: list of Tensors of the values of the request's ys, corrected.
      corrected: bool, whether anything was.
      stands_for: dict from the key of a Tensor that was built to the caller's own.
      layout: the `Layout` of `x`.
      walk: the `Walk` from `x`.
      proof: the `State` of ys.
      gradient: Tensor of the shape of `x`, or None.
      is_linear: bool, whether the gradient does not depend on `x`.
      findings: the `Findings` of the audit.
      method: the name of the method to take.
      parts: pair of ys in elementary ops and their `Partition`; None without one.
      block: int, the observations to work on at a time; None for all at once.
      lost: the `NoPartitionError` that tells why there is none, or None.
      checks: `Checks`.
      refusal: the exception to raise instead of building; None if there is none.
    """

    @property
    def is_proven(self):
        """Whether the graph proves that observations do not meet."""
        return self.proof.kind != UNPROVEN

    @property
    def is_moved(self):
        """Whether the model is built again at other x, for differences."""
        twice = self.method is None or self.record.differentiates_twice
        return bool(self.checks.differences) or not twice

    @property
    def record(self):
        """The `Method` that is taken."""
        return methods_for(self.request.wanted)[self.method]

    @property
    def by_columns(self):
        """Whether the method answers the columns that are asked for, and no others.

        Its passes answer rows. They are the columns, unless an author's own gradient is
        that of no function: then all are answered.
        """
        request = self.request
        if request.coordinates is None or request.wanted is not WHOLE:
            return self.record.by_columns
        own = with_authors_gradient(Region(self.ys, self.x))
        return self.record.by_columns and not own


def plan(request, directions=None):
    """Decides how to differentiate by each x; builds no more than the gradients.

    Of xs that are not computed from each other, the model is corrected once, and
    differentiated once by all of them.

    Args:
      request: the `Request`, checked, of Tensors of the default graph or one around it.
      directions: list of Tensors of the shapes of xs, for a product.

    Returns:
      list with a `Plan` for each x.
    """
    xs = request.xs
    groups = [[x] for x in xs] if _are_related(xs) else [xs]
    given = []
    for group in groups:
        stands_for = dict(request.stands_for)
        read, group = read_once(request.ys, group, stands_for)
        ys = read if request.check == "never" else correct(read, group, stands_for)
        gradients = _gradients(request, ys, group)
        given += [
            (ys, ys is not read, stands_for, x, g) for x, g in zip(group, gradients)
        ]
    directions = directions or [None] * len(xs)
    sparsity = request.sparsity or [None] * len(xs)
    return [_plan(request, *rest) for rest in zip(given, directions, sparsity)]


def _gradients(request, ys, xs):
    """The gradients of `ys` by each of `xs`, or None; not those of another process."""
    region = Region(ys, xs)
    if request.check != "never" and foreign(region):
        return [None] * len(xs)
    with tf.control_dependencies(readers(region.ops)):
        return request.passes.gradients(ys, xs)


def _are_related(xs):
    """Whether one of `xs` is computed from another, or stands there twice."""
    sources = {tensor_key(source_tensor(x)): source_tensor(x) for x in xs}
    if len(sources) < len(xs):
        return True
    return any(
        value_region([x], [s for s in sources.values() if s is not x])
        for x in xs
        if isinstance(x, tf.Tensor)
    )


def _plan(request, given, direction, pattern):
    """The `Plan` of one x: `given` are what is of all, x, and its gradient."""
    ys, corrected, stands_for, x, gradient = given
    layout = Layout(x, request.batch_axis)
    compressed = None
    if pattern is not None:
        request, compressed = _compressed(request, pattern, layout, x)
    walk, region = walk_from(x, layout.axis), Region(ys, x)
    proof = prove(ys, walk)
    if request.wanted.is_product and proof.kind != UNPROVEN:
        request = of_product(request, direction, layout, region)
    made = Plan(
        request=request,
        x=x,
        direction=direction,
        compressed=compressed,
        ys=ys,
        corrected=corrected,
        stands_for=stands_for,
        layout=layout,
        walk=walk,
        proof=proof,
        gradient=gradient,
        is_linear=True,
        findings=Findings([], [], [], []),
        method=None,
        parts=None,
        block=None,
        lost=None,
        checks=Checks(False, [], False, [], False, [], None),
        refusal=None,
    )
    own = with_authors_gradient(region) if request.check != "never" else []
    numbered = foreign(region) if own else []
    if numbered:
        return made._replace(refusal=refusal(numbered, x))
    if made.gradient is None:
        return made._replace(refusal=_unconnected(made, region))
    if own and compressed is not None:
        return made._replace(refusal=_may_lack_symmetry(own[0]))
    behind = Region([gradient], x)
    moves = behind.depends([gradient]) or kept_by_loops(behind, x)
    made = made._replace(is_linear=not moves)
    if request.check != "never":
        made = made._replace(findings=audit(ys, region, made.gradient, x))
    made = _with_method(made, region)
    return _with_checks(made, region)


def _compressed(request, pattern, layout, x):
    """The `Request` for entries of `pattern`, and the `Compressed` that finds them."""
    assert_fits(pattern, layout.size, layout.size, [x])
    assert_symmetric(pattern)
    name = request.method
    if name == "auto":
        name = next(name for name in AUTO if METHODS[name].colours)
    found = Compressed(pattern, METHODS[name].colours(pattern))
    return request._replace(method=name, wanted=found.wanted(request.dense)), found


def _may_lack_symmetry(op):
    """The refusal of entries that are found by symmetry."""
    return ValueError(
        "sparsity= finds entries by symmetry, and {} has a gradient of its author's "
        "own, by which the Hessian need not be symmetric. Leave sparsity= out, or pass "
        "check='never' if it is.".format(placed(op))
    )


def _unconnected(made, region):
    """The refusal where there is no gradient; None where zeros are the answer."""
    if region.depends(made.ys):
        return lost("gradient", made.ys, made.x)
    given = made.request.ys
    if made.corrected and Region(given, made.x).depends(given):
        return None  # What depends on x adds nothing, as a product of no factors.
    if made.request.unconnected_gradients == tf.UnconnectedGradients.ZERO:
        return None
    return arguments.not_connected(given, made.x)


def _with_method(made, region):
    """Chooses the method, with a partition if it goes block by block."""
    request, compiled = made.request, made.request.passes.jit_compile
    if request.wanted.is_product:
        return _with_vectors(made, region)
    names = _names(request, made.layout)
    if compiled and not METHODS[names[0]].compiles:
        return made._replace(method=names[0], refusal=_cannot_compile(request))
    in_blocks = compiled or METHODS[names[0]].by_blocks
    if made.is_linear or not in_blocks:
        return made._replace(method=names[-1])
    try:
        made = made._replace(method=names[0], parts=_parts(made, region))
        if len(names) > 1 and not compiled and _is_thin(made):
            return made._replace(method=names[-1], parts=None)
        return made._replace(block=_block(made))
    except NoPartitionError as error:
        made = made._replace(method=names[0], lost=error)
    if compiled or len(names) == 1:
        return made._replace(refusal=_not_followed(made))
    return made._replace(method=names[-1])


def _names(request, layout):
    """The methods to try, the best one first."""
    if request.method != "auto":
        return (request.method,)
    if isinstance(layout.size, int):
        chosen = request.coordinates
        count = layout.size if chosen is None else len(chosen)
        if count == 1 or 2 * count <= layout.size:
            return tuple(name for name in AUTO if METHODS[name].by_columns)
    return AUTO


def _parts(made, region):
    """ys with softmax and the like in elementary ops, and their `Partition`."""
    if not made.is_proven:
        raise NoPartitionError(made.proof.op, made.proof.reason)
    apart = take_apart(made.ys, made.x, made.stands_for)
    if apart is not made.ys:
        region = Region(apart, made.x)
    return apart, partition(region, apart, made.x, made.walk, made.layout.axis)


def _with_vectors(made, region):
    """Chooses the method of products with vectors."""
    made = made._replace(method=method_of_product(made, region))
    if made.is_linear or not made.record.by_blocks:
        return made
    try:
        return with_way_of_vectors(made)
    except NoPartitionError as error:
        if made.request.method == "auto":
            return made._replace(method="columns")
        made = made._replace(lost=error)
        return made._replace(refusal=_not_followed(made))


def _is_thin(made):
    """Whether two passes through the model cost less than products of its tangents."""
    return made.layout.size == 2 and widest(made.x, made.parts[1]) <= 2


def _block(made):
    """The observations of a block; None where all are to be taken at once."""
    layout, (_, parts) = made.layout, made.parts
    size = block_size(made.x, layout.size, parts)
    if made.request.passes.jit_compile:
        return size
    count = layout.num_observations
    at_once = isinstance(count, int) and count <= size
    return None if at_once or layout.size <= FEW else size


def _with_checks(made, region):
    request, method = made.request, made.record
    if request.check == "never":
        return made
    twice, unknown = method.differentiates_twice, made.findings.unknown
    coupling = method.needs_separable and not made.is_proven and not made.is_linear
    refused = made.refusal
    if refused is None and request.per_output:
        refused = _outputs_refusal(made)
    if refused is None:
        faults = made.findings.faults
        faults = faults if twice else [f for f in faults if f[0].spoils_values]
        refused = refusal(faults, made.x)
    if refused is None and coupling and not twice:
        refused = _moves_all(made)
    if made.is_linear:
        return made._replace(refusal=refused)
    checks = Checks(
        coupling=coupling and twice,
        guarded=made.findings.told + (made.findings.guarded if twice else []),
        # Differences move all observations at once: what is coupled cannot be verified.
        differences=request.check == "always"
        or bool(unknown)
        and twice
        and (method.needs_separable or made.is_proven),
        unknown=unknown,
        symmetry=bool(unknown) and twice and _has_whole(made, region),
        readers=readers(region.ops),
        pattern=made.compressed and made.compressed.precision_in(region.ops, made.x),
    )
    refused = refused or (checks.pattern and too_coarse(checks.pattern))
    return made._replace(checks=checks, refusal=refused)


def _has_whole(made, region):
    """Whether whole Hessians are there, of a gradient that is TensorFlow's own."""
    request = made.request
    is_whole = request.wanted is WHOLE and request.coordinates is None
    return is_whole and not with_authors_gradient(region)


def _outputs_refusal(made):
    """The refusal where axis 0 of y is not known to hold the observations, or None."""
    (y,), state = made.ys, made.walk.state(made.ys[0])
    if state.is_own and state.axis == 0:
        return None
    if state.is_own:
        why = "on axis {}. Transpose it".format(state.axis)
    elif state.kind == SUM:
        why = "nowhere: it is summed over them. Pass the terms of the sum"
    else:
        why = "on an axis that the graph does not tell. Pass check='never' if it is 0"
    return ValueError(
        "per_output=True needs the observations of '{}' on axis 0 of '{}', of "
        "shape {}, which has them {}.".format(
            name_of(made.x), made.request.ys[0].name, y.shape, why
        )
    )


def _cannot_compile(request):
    return ValueError(
        "jit_compile=True needs method={}.".format(
            " or ".join(repr(n) for n, m in METHODS.items() if m.compiles),
        )
    )


def _not_followed(made):
    request, op = made.request, made.lost.op and original(made.lost.op)
    return ValueError(
        "{} cannot follow the observations of '{}': {} {}. Pass "
        "method='columns' alone.".format(
            "jit_compile=True"
            if request.passes.jit_compile
            else "method={!r}".format(made.method),
            name_of(made.x),
            "it" if op is None else "'{}' ({})".format(op.name, op.type),
            made.lost.reason,
        )
    )


def _moves_all(made):
    op = original(made.proof.op)
    return ValueError(
        "method={!r} moves all observations at once, and '{}' ({}) is not proven "
        "to keep them apart: it {}. Pass check='never' if it does.".format(
            made.method, op.name, op.type, made.proof.reason
        )
    )
