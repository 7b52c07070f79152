"""What batchhess will do with a graph, and why, for a person to read."""

import html
from typing import Any, List, Optional

from batchhess import arguments
from batchhess.building import building_in
from batchhess.calling import public
from batchhess.compat import tf, where_built
from batchhess.graph.tensors import name_of, original
from batchhess.methods import METHODS, blocks
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
        all K tangents forward.
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


@public()
def explain(
    ys: Any, xs: Any, *, batch_axis: int = 0, num_observations: Optional[int] = None
) -> List[Explanation]:
    """Tells what `hessians(ys, xs)` would do, and what stands in its way.

    It adds a gradient to the graph, as `hessians` does, and runs nothing.

    Args:
      ys: as in `hessians`.
      xs: as in `hessians`.
      batch_axis: as in `hessians`.
      num_observations: N, for the estimate of memory where the graph does not tell it.

    Returns:
      A list of `Explanation`, one for each x.

    Raises:
      RuntimeError: as `hessians`.
      TypeError: as `hessians`.
      ValueError: as `hessians`.
    """
    asked = Request(ys, xs, "explain", WHOLE, Passes(), batch_axis=batch_axis)
    request, graph = arguments.checked(asked, METHODS)
    with building_in(graph), tf.name_scope("explain"):
        return [_explained(made, num_observations) for made in plan(request)]


def _explained(made, num_observations):
    size = made.layout.size if isinstance(made.layout.size, int) else "K"
    given, x = made.request.ys[0], made.x
    what = "'{}' with respect to '{}', {}".format(given.name, name_of(x), x.shape)
    lines = [("f", what)]
    count, memory = "0", None
    if made.gradient is None:
        lines.append(("gradient", "none: lost, or not connected"))
    elif made.is_linear:
        memory = _result(made, num_observations)
        lines.append(("Hessian", "zeros, ys are linear in x"))
    else:
        count, memory = _passes(made, size), _memory(made, num_observations)
        lines += _observations(made) + [("method", _method(made, count))]
    if made.corrected:
        lines.append(
            ("rewritten", "parts that TensorFlow differentiates wrongly twice")
        )
    lines += _checks(made)
    if made.refusal is not None:
        lines.append(("refused", str(made.refusal)))
    if memory is not None:
        text = "about {:.1f} MB beyond the model's own".format(memory / 1e6)
        lines.append(("memory", text))
    return Explanation(
        name_of(made.x),
        made.is_proven,
        made.proof.op and original(made.proof.op),
        [original(op) for _, op in made.findings.faults],
        count,
        memory,
        lines,
    )


def _observations(made):
    if made.is_proven:
        return [("observations", "proven separate, from the graph")]
    mixing = original(made.proof.op)
    return [
        (
            "observations",
            "not proven separate. '{}' ({}){} {}; three more passes check it in each "
            "run, and fail it if they are coupled; method='observations' is exact "
            "then, at N times the passes".format(
                mixing.name, mixing.type, where_built(mixing), made.proof.reason
            ),
        )
    ]


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
        lines.append(("checked", "each run fails at zeros of " + names))
    if made.checks.differences:
        names = ", ".join(
            "'{}' ({})".format(original(op).name, op.type)
            for op in made.checks.unknown[:3]
        )
        lines.append(
            (
                "verified",
                "each run is held against differences of the gradient: no test has "
                "seen the second derivative of " + names,
            )
        )
    return lines


def _passes(made, size):
    if made.parts is not None:
        return "1"
    return "{} + 3".format(size) if made.checks.coupling else str(size)


def _memory(made, num_observations):
    result = _result(made, num_observations)
    if result is None:
        return None
    if METHODS[made.method].by_blocks:
        return result + _TENSORS_UNDER_WAY * blocks.CACHE
    return _COPIES_OF_THE_RESULT * result


def _result(made, num_observations):
    """The bytes of the Hessians, or None if N or K is not known."""
    count = made.layout.num_observations
    count = count if isinstance(count, int) else num_observations
    if count is None or not isinstance(made.layout.size, int):
        return None
    return count * made.layout.size**2 * made.x.dtype.base_dtype.size
