"""Names of outputs as their caller knows them, and means that a fetch is of."""

import contextlib
import re

import numpy as np

from batchhess.compat import static_value, tf


def output_names(fetches):
    """A name for a file of each fetch, in the order of `tf.nest.flatten`.

    The key in a dict, the field of a namedtuple, the tensor's own name elsewhere. The
    fields of a list of one need no number.
    """
    paths = list(_paths(fetches, ()))
    flat = tf.nest.flatten(fetches)
    assert len(paths) == len(flat)
    return numbered(
        _as_file("_".join(path) if path else fetch.name)
        for path, fetch in zip(paths, flat)
    )


def as_key(name):
    """The name of a Tensor in letters, digits and underscores."""
    return re.sub(r"\W+", "_", re.sub(":0$", "", name))


def numbered(names):
    """A list of `names`, those that a file system may take for each other numbered."""
    names = list(names)
    folded = [name.lower() for name in names]  # Some file systems know one case only.
    found = [
        "{}_{}".format(name, index) if folded.count(low) > 1 else name
        for index, (name, low) in enumerate(zip(names, folded))
    ]
    # A name with a number may be that of another.
    unique = len(set(map(str.lower, found))) == len(found)
    return found if unique else ["{}_{}".format(n, i) for i, n in enumerate(names)]


def _paths(structure, path):
    if isinstance(structure, dict):
        for key in sorted(structure):
            for found in _paths(structure[key], path + (str(key),)):
                yield found
    elif hasattr(structure, "_fields"):
        for field in structure._fields:
            for found in _paths(getattr(structure, field), path + (field,)):
                yield found
    elif isinstance(structure, (list, tuple)):
        for index, item in enumerate(structure):
            numbered = path and len(structure) > 1
            for found in _paths(item, path + (str(index),) if numbered else path):
                yield found
    else:
        yield path


def _as_file(name):
    name = re.sub(r":0$", "", name)
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "output"


def _find_mean(fetches, count):
    """The name of a mean over an axis 0 of `count` that `fetches` are made of, or None.

    The gradient of a mean holds its number of terms as a constant, and may not hold
    the mean itself: it is known by the name of its gradient's scope.
    """
    graph = fetches[0].graph
    seen, stack = set(), [fetch.op for fetch in fetches]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        stack.extend([t.op for t in op.inputs] + list(op.control_inputs))
        for candidate in [op] + _differentiated(graph, op.name):
            if candidate.type == "Mean" and _is_over(candidate, count):
                return candidate.name
    return None


def refuse_means(fetches, batch_size):
    """Raises where a graph of a fixed number of observations takes a mean over them."""
    mean = _find_mean(fetches, batch_size)
    if mean is not None:
        raise ValueError(
            "the graph is of {} observations, and '{}' is a mean over them: "
            "the answers would be of a mean over a batch, not over all. Take a sum, or "
            "pass check='never' if that is what you want.".format(batch_size, mean)
        )


def _differentiated(graph, name):
    """The op whose gradient the op called `name` may be a part of."""
    parts, found = name.split("/"), []
    for end, part in enumerate(parts):
        if part.endswith("_grad"):
            for begin in range(end + 1):
                candidate = "/".join(parts[begin:end] + [part[: -len("_grad")]])
                with contextlib.suppress(KeyError):
                    found.append(graph.get_operation_by_name(candidate))
    return found


def _is_over(mean, count):
    shape, axes = mean.inputs[0].shape, static_value(mean.inputs[1])
    if not shape.ndims or shape.as_list()[0] != count or axes is None:
        return False
    return any(axis in (0, -shape.ndims) for axis in np.ravel(axes))
