"""Parts of a model that TensorFlow differentiates wrongly, written in another way.

Each correction has the value and the first derivative of the part that it replaces, and
the right second derivative.
"""

from batchhess.analysis.region import Region
from batchhess.compat import control_flow_context, tf
from batchhess.control_flow import rebuild_control_flow
from batchhess.ops.table import declared
from batchhess.rebuild import rebuild

_logged = set()


def correct(ys, x):
    """Builds `ys` again where TensorFlow would differentiate them wrongly twice.

    What cannot be built again, inside functions and branches, is left for the audit.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor or Variable.

    Returns:
      list of Tensors of the same values; `ys` itself if there is nothing to correct.
    """
    ys = rebuild_control_flow(ys, x)
    return _rewrite(ys, x, _correction, notify=_log)


def take_apart(ys, x):
    """Builds `ys` again with softmax and cross entropies in their elementary ops.

    Those are element by element or linear, of which symmetric makes less work.

    Args:
      ys: list of Tensors of the default graph.
      x: a Tensor.

    Returns:
      list of Tensors of the same values and derivatives.
    """
    return _rewrite(ys, x, _parts)


def _correction(op, depends):
    """How to build `op` anew, if that is needed."""
    form = declared(op).rewrite
    return form.build if form and form.applies(op, depends) else None


def _parts(op, depends):
    return None if depends(op.inputs[1:]) else declared(op).parts


def _rewrite(ys, x, form_of, notify=lambda op: None):
    """Builds `ys` again with each op for which there is a form in that form."""
    tried = set()
    while True:
        region = Region(ys, x)
        forms = {
            op: form_of(op, region.depends)
            for op in region.ops
            if op not in tried and _is_in_reach(op)
        }
        op = _last([op for op, form in forms.items() if form is not None], ys)
        if op is None:
            return ys
        tried.add(op)
        news = forms[op](op)
        rebuilt = rebuild(ys, list(op.outputs)[: len(news)], news)
        if rebuilt is not None:
            notify(op)
            ys = rebuilt


def _is_in_reach(op):
    return op.graph is tf.get_default_graph() and control_flow_context(op) is None


def _last(ops, ys):
    """One of `ops` that no other of them depends on; None if there are none.

    The later op first: a correction copies all that follows, and a stopped mean would
    stay behind, the mean of another tensor than the copy's.
    """
    for op in ops:
        later = set(Region(ys, op.outputs[0]).ops)
        if not any(other in later for other in ops if other is not op):
            return op
    return None


def _log(op):
    if op.type not in _logged:
        _logged.add(op.type)
        tf.logging.info(
            "batchhess: '%s' (%s) is differentiated in another form, because "
            "TensorFlow's second derivative of it is wrong, or is not defined.",
            op.name,
            op.type,
        )
