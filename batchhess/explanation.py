"""What batchhess will do with a graph, and why, for a person to read."""

import functools
import html
from operator import mul
from typing import Any, List, Optional

from batchhess import arguments
from batchhess.building import building_in
from batchhess.calling import public
from batchhess.compat import tf, where_built
from batchhess.graph.tensors import name_of, original
from batchhess.jacobian_planning import plan as plan_jacobian
from batchhess.methods import JACOBIAN_METHODS, METHODS, blocks
from batchhess.passes import Passes
from batchhess.planning import plan
from batchhess.problem import WHOLE, Request

# Of columns: the Hessians as a list of columns, stacked, and in their final order.
_COPIES_OF_THE_RESULT = 3

# Of symmetric: what the blocks under way hold, each about a processor's cache. It is
# 60 MB for a network 32-256-256-256-1.
_TENSORS_UNDER_WAY = 28


class Explanation:
    """What holds for one x; printed, it reads as a report.

    Attributes:
      x: str, the name of the x.
      separable: bool, whether the graph proves that observations do not meet.
      mixing: the Operation that is not proven, or None.
      faults: list of the Operations that TensorFlow differentiates wrongly.
      passes: str, the number of reverse passes of a run; symmetric makes one, and takes
        all K tangents forward, and forward makes none.
      memory: int, bytes of a run beyond the model's own, or None without N or K.
      lines: list of (topic, text), the report.
    """

    def __init__(self, x, separable, mixing, faults, passes, memory, lines):
        self.x, self.separable, self.mixing = x, separable, mixing
        self.faults, self.passes, self.memory = faults, passes, memory
        self.lines = lines

    @property
    def text(self):
        """The report, as `str` answers it."""
        return "\n".join("{}: {}".format(*line) for line in self.lines)

    def __str__(self):
        return self.text

    __repr__ = __str__

    def _repr_html_(self):
        """The report as a table, with what is refused in red, for a notebook."""
        rows = "".join(
            "<tr{}><th style='text-align:left'>{}</th>"
            "<td style='text-align:left'>{}</td></tr>".format(
                " style='color:#b00020'" if topic == "refused" else "",
                html.escape(topic),
                html.escape(text),
            )
            for topic, text in self.lines
        )
        return "<table>{}</table>".format(rows)


class Explanations(list):
    """A list of `Explanation`; printed, the reports, and tables in a notebook."""

    def __repr__(self):
        return "\n\n".join(map(str, self))

    def _repr_html_(self):
        return "".join(one._repr_html_() for one in self)


@public()
def explain(
    ys: Any,
    xs: Any,
    *,
    batch_axis: int = 0,
    num_observations: Optional[int] = None,
    operator: str = "hessians",
) -> List[Explanation]:
    """Tells what `hessians` or `jacobians` would do, and what stands in its way.

    It adds a gradient to the graph, as `hessians` does, and runs nothing.

    Args:
      ys: as in `hessians`.
      xs: as in `hessians`.
      batch_axis: as in `hessians`.
      num_observations: N, for the estimate of memory where the graph does not tell it.
      operator: "hessians" or "jacobians", of which to tell.

    Returns:
      A list of `Explanation`, one for each x, which reads as the reports.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`.
      ValueError: as `hessians`.
    """
    if operator not in _OPERATORS:
        raise ValueError(
            "operator is {!r}, not of {}.".format(operator, sorted(_OPERATORS))
        )
    if num_observations is not None:
        num_observations = arguments.int_of("num_observations", num_observations)
        if num_observations < 0:
            raise ValueError("num_observations is {}.".format(num_observations))
    methods, explained = _OPERATORS[operator]
    asked = Request(ys, xs, "explain", WHOLE, Passes(), batch_axis=batch_axis)
    request, graph = arguments.checked(asked, methods)
    with building_in(graph), tf.name_scope("explain"):
        return Explanations(explained(request, num_observations))


def _of_hessians(request, num_observations):
    return [_explained(made, num_observations) for made in plan(request)]


def _of_jacobians(request, num_observations):
    arguments.check_one_y(request.ys, request.xs, request.batch_axis)
    plans = [plan_jacobian(request, x) for x in request.xs]
    return [_explained_jacobian(made, num_observations) for made in plans]


# The methods of each operator, and what answers the explanations of a `Request` for it.
_OPERATORS = {
    "hessians": (METHODS, _of_hessians),
    "jacobians": (JACOBIAN_METHODS, _of_jacobians),
}


def _explained(made, num_observations):
    size = _known(made.layout.size, "K")
    given, x = made.request.ys[0], made.x
    what = "'{}' with respect to '{}', {}".format(given.name, name_of(x), x.shape)
    lines = [("f", what)]
    count, memory = "0", None
    if made.gradient is None:
        lines.append(("gradient", "none: lost, or not connected"))
    elif made.is_linear:
        memory = _bytes(made, num_observations, made.layout.size, made.layout.size)
        lines.append(("Hessian", "zeros, ys are linear in x"))
    else:
        count, memory = _passes(made, size), _memory(made, num_observations)
        lines += _observations(made) + [("method", _method(made, count))]
    if made.corrected:
        lines.append(_REWRITTEN)
    lines += _checks(made)
    mixing = made.proof.op and original(made.proof.op)
    faults = [original(op) for _, op in made.findings.faults]
    return _report(made, made.is_proven, mixing, faults, count, memory, lines)


def _explained_jacobian(made, num_observations):
    given, state = made.request.ys[0], made.state
    what = "'{}', {}, with respect to '{}', {}".format(
        given.name, given.shape, name_of(made.x), made.x.shape
    )
    lines, count, memory = [("y", what)], "0", None
    size = _known(made.outputs.size, "M")
    if made.is_zero:
        lines.append(("Jacobian", "zeros, y does not vary with x"))
    elif made.method is not None:
        memory = _bytes(made, num_observations, made.outputs.size, made.layout.size)
        count = "0" if made.method == "forward" else str(size)
        if made.checks.coupling:
            count += " + 3"
        lines.append(("observations", _along_axis_0(made)))
        lines.append(("method", _way(made, size)))
    if made.ys[0] is not given:
        lines.append(_REWRITTEN)
    if made.checks.suspects:
        text = "it is not known to be right at " + _named(made.checks.suspects)
        lines.append(("verified", _VERIFIED.format("y", text)))
    mixing = state and state.op and original(state.op)
    proven = state is not None and made.is_followed
    return _report(made, proven, mixing, [], count, memory, lines)


def _along_axis_0(made):
    if made.state.is_own:
        text = "proven separate, from the graph, along axis {} of y"
        return text.format(made.state.axis)
    if made.state.op is None:
        return _NOT_PROVEN.format("some are summed up")
    return _NOT_PROVEN.format(_mixing(made.state))


def _way(made, size):
    if made.method == "forward":
        where = "on all observations at once"
        if made.block is not None:
            where = "in blocks of {} observations".format(made.block)
        return "forward, {} tangents, {}".format(made.layout.size, where)
    return "{}, {} reverse passes".format(made.method, size)


_REWRITTEN = "rewritten", "parts that TensorFlow differentiates wrongly twice"


def _report(made, separable, mixing, faults, count, memory, lines):
    """The `Explanation` with those lines, and what is refused and what it takes."""
    if made.refusal is not None:
        lines.append(("refused", str(made.refusal)))
    if memory is not None:
        text = "up to about {:.1f} MB beyond the model's own".format(memory / 1e6)
        lines.append(("memory", text))
    return Explanation(name_of(made.x), separable, mixing, faults, count, memory, lines)


def _observations(made):
    if made.is_proven:
        return [("observations", "proven separate, from the graph")]
    return [("observations", _NOT_PROVEN.format(_mixing(made.proof)))]


_NOT_PROVEN = (
    "not proven separate. {}; three more passes check it in each run, and fail it if "
    "they are coupled; method='observations' is exact then, at N times the passes"
)


def _mixing(state):
    op = original(state.op)
    where = op.name, op.type, where_built(op)
    return "'{}' ({}){} {}".format(*where, state.reason)


def _method(made, count):
    if made.parts is not None:
        if made.block is None:
            return "{}, on all observations at once".format(made.method)
        return "{}, in blocks of {} observations".format(made.method, made.block)
    text = "{}, {} reverse passes".format(made.method, count)
    if made.lost is not None and made.is_proven:
        op = made.lost.op
        text += "; symmetric cannot follow the observations: {} {}".format(
            "x" if op is None else repr(original(op).name), made.lost.reason
        )
    return text


def _checks(made):
    lines = []
    if made.checks.guarded:
        names = ", ".join(repr(original(op).name) for op in made.checks.guarded)
        lines.append(
            ("checked", "each run fails where TensorFlow is wrong at " + names)
        )
    if made.checks.differences:
        text = "no test has seen the second derivative of " + _named(
            made.checks.unknown
        )
        text = _VERIFIED.format("the gradient", text)
        lines.append(("verified", text))
    return lines


_VERIFIED = "each run is held against differences of {}: {}"


def _named(ops):
    return ", ".join("'{}' ({})".format(original(op).name, op.type) for op in ops[:3])


def _passes(made, size):
    if made.parts is not None:
        return "1"
    return "{} + 3".format(size) if made.checks.coupling else str(size)


def _memory(made, num_observations):
    size = made.layout.size
    result = _bytes(made, num_observations, size, size)
    if result is None:
        return None
    if METHODS[made.method].by_blocks:
        return result + _TENSORS_UNDER_WAY * blocks.CACHE
    return _COPIES_OF_THE_RESULT * result


def _bytes(made, num_observations, *sizes):
    """The bytes of a result [N, *sizes], or None if one of them is not known."""
    count = _known(made.layout.num_observations, num_observations)
    if not all(isinstance(size, int) for size in (count,) + sizes):
        return None
    return count * functools.reduce(mul, sizes) * made.x.dtype.base_dtype.size


def _known(size, name):
    """`size`, or `name` where only the run tells it."""
    return size if isinstance(size, int) else name
