"""What batchhess will do with a graph, and why, for a person to read."""

import collections
from typing import Any, List, Optional

from batchhess import arguments
from batchhess.analysis import audit
from batchhess.analysis.observation_axis import MIXED, prove
from batchhess.analysis.partition import NoPartitionError, partition
from batchhess.analysis.region import depends, original
from batchhess.compat import tf, where_built
from batchhess.corrections import correct
from batchhess.layout import Layout
from batchhess.methods import blocks
from batchhess.passes import Passes
from batchhess.problem import Problem

# Of columns: the Hessians as a list of columns, stacked, and in their final order.
_COPIES_OF_THE_RESULT = 3

# Of symmetric: what the blocks under way hold, each about a processor's cache. It is
# 60 MB for a network 32-256-256-256-1.
_TENSORS_UNDER_WAY = 28


class Explanation(
    collections.namedtuple(
        "Explanation",
        "x separable mixing faults passes memory text",
    )
):
    """What holds for one x; printed, it reads as a report.

    Attributes:
      x: str, the name of the x.
      separable: bool, whether the graph proves that observations do not meet.
      mixing: the Operation that is not proven, or None.
      faults: list of the Operations that TensorFlow differentiates wrongly.
      passes: str, the number of reverse passes of a run; symmetric makes one, and takes
        all K tangents forward.
      memory: int, bytes of a run beyond the model's own, or None without N or K.
      text: str, the report.
    """

    def __str__(self):
        return self.text


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
    given = arguments.check("explain", ys, xs, batch_axis, per_output=False)
    with given.graph.as_default(), tf.name_scope("explain"):
        return [_explain(given.ys, x, batch_axis, num_observations) for x in given.xs]


def _explain(ys, x, batch_axis, num_observations):
    passes = Passes("explain", False, False, None, None, False, False)
    layout = Layout(x, batch_axis)
    given, ys = ys, correct(ys, x)
    gradient = passes.gradient(ys, x)
    proof = prove(ys, x, batch_axis)
    separable = proof.kind != MIXED
    found = [] if gradient is None else audit.find(ys, gradient, x)
    size = layout.size if isinstance(layout.size, int) else "K"
    lines = ["'{}' with respect to '{}', {}".format(ys[0].name, x.name, x.shape)]

    if gradient is None:
        count, memory = "0", None
        lost = depends(ys, x)
        lines.append(
            "gradient: "
            + ("lost by TensorFlow: refused" if lost else "none: not connected")
        )
    elif not depends([gradient], x):
        count, memory = "0", _result(layout, x, num_observations)
        lines.append("Hessian: zeros, ys are linear in x")
    else:
        result = _result(layout, x, num_observations)
        memory = None if result is None else _COPIES_OF_THE_RESULT * result
        count = str(size)
        method = "columns, {} reverse passes".format(size)
        if separable:
            lines.append("observations: proven separate, from the graph")
            try:
                parts = partition(ys, x, layout.axis)
                problem = Problem(ys, None, gradient, x, layout, parts)
                block, count = blocks.block_size(problem), "1"
                method = "symmetric, in blocks of {} observations".format(block)
                memory = None if result is None else result + _under_way()
            except NoPartitionError as error:
                method += "; symmetric cannot follow the observations: {} {}".format(
                    "x" if error.op is None else repr(original(error.op).name),
                    error.reason,
                )
        else:
            count, mixing = "{} + 2".format(size), original(proof.op)
            lines.append(
                "observations: not proven separate. '{}' ({}){} {}".format(
                    mixing.name, mixing.type, where_built(mixing), proof.reason
                )
            )
            lines.append(
                "  two more passes check it in each run, and fail it if they are "
                "coupled; method='observations' is exact then, at N times the passes"
            )
            method = "columns, {} reverse passes".format(count)
        lines.append("method: " + method)
    if ys is not given:
        lines.append("rewritten: parts that TensorFlow differentiates wrongly twice")
    found = [(fault, original(op)) for fault, op in found]
    for fault, op in found:
        lines.append(
            "refused: '{}' ({}){}: TensorFlow {}. {}".format(
                op.name, op.type, where_built(op), fault.does, fault.cure
            )
        )
    if memory is not None:
        lines.append(
            "memory: about {:.1f} MB beyond the model's own".format(memory / 1e6)
        )
    return Explanation(
        x.name,
        separable,
        proof.op and original(proof.op),
        [op for _, op in found],
        count,
        memory,
        "\n".join(lines),
    )


def _under_way():
    return _TENSORS_UNDER_WAY * blocks.CACHE


def _result(layout, x, num_observations):
    """The bytes of the Hessians, or None if N or K is not known."""
    count = layout.num_observations
    count = count if isinstance(count, int) else num_observations
    if count is None or not isinstance(layout.size, int):
        return None
    return count * layout.size**2 * x.dtype.base_dtype.size
