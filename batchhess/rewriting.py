"""Parts of a model that TensorFlow differentiates wrongly, written in another way.

Each correction has the value and the first derivative of the part that it replaces, and
the right second derivative.
"""

from batchhess.analysis.region import Region
from batchhess.analysis.values import value_region
from batchhess.compat import (
    control_flow_context,
    in_v1_while_loop,
    source_tensor,
    tf,
)
from batchhess.control_flow import rebuild_control_flow
from batchhess.graph.tensors import tensor_key
from batchhess.ops.table import correction_of, declared
from batchhess.rebuild import rewrite, stand_for

_logged = set()


def correct(ys, xs, stands_for):
    """Builds `ys` again where TensorFlow would differentiate them wrongly twice.

    What cannot be built again, inside functions and branches, is left for the audit.

    Args:
      ys: list of Tensors of the default graph.
      xs: list of Tensors or Variables, none of them computed from another.
      stands_for: dict as of `stand_for`, to which what is built is added.

    Returns:
      list of Tensors of the same values, `ys` itself if there is nothing to correct.
    """
    rebuilt = rebuild_control_flow(ys, xs, stands_for)

    def form_of(op, region):
        return correction_of(op, region.depends)

    return _rewrite(rebuilt, xs, form_of, stands_for, notify=_log)


def take_apart(ys, x, stands_for):
    """Builds `ys` again with softmax and cross entropies in their elementary ops.

    Those are element by element or linear, of which symmetric makes less work. What is
    written in these ops by hand has its largest logit taken off as a function of x.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor.
      stands_for: dict as of `stand_for`, to which what is built is added.

    Returns:
      list of Tensors of the same values and derivatives.
    """
    return _rewrite(ys, [x], _parts, stands_for)


def _parts(op, region):
    parts = declared(op).parts
    return parts and parts(op, region)


def _rewrite(ys, xs, form_of, stands_for, notify=lambda op: None):
    """Builds `ys` again with each op for which there is a form in that form.

    What is a pattern only when parts of it have been rewritten is seen in a second
    walk. An op of which an output is left is not rewritten again.
    """
    done = set()
    while not in_v1_while_loop():
        region, found = Region(ys, xs), []

        def form(op, original_of, region=region, found=found):
            region = _OfCopies(region, original_of)
            if op in done or not region.depends(op.outputs) or not _is_in_reach(op):
                return None
            build = form_of(op, region)
            if build is not None:
                found.append(op)
            return build

        ops = value_region(ys, [source_tensor(x) for x in xs])
        rewritten, built = rewrite(ys, ops, form)
        if not found:
            break
        done.update(found)
        for (op, place), new in built.items():
            stand_for(stands_for, op.outputs[place], new)
        ys = rewritten
        for op in found:
            notify(op)
    return ys


class _OfCopies:
    """A `Region` that is asked about copies of its ops."""

    def __init__(self, region, original_of):
        self._region, self._original_of = region, original_of

    def depends(self, tensors):
        return self._region.depends(self._originals(tensors))

    def bends(self, tensors):
        return self._region.bends(self._originals(tensors))

    def _originals(self, tensors):
        return [self._original_of.get(tensor_key(t), t) for t in tensors]


def _is_in_reach(op):
    return op.graph is tf.get_default_graph() and control_flow_context(op) is None


def _log(op):
    if op.type not in _logged:
        _logged.add(op.type)
        tf.logging.info(
            "batchhess: '%s' (%s) is differentiated in another form, because "
            "TensorFlow's second derivative of it is wrong, or is not defined.",
            op.name,
            op.type,
        )
