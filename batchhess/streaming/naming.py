"""Names of outputs as their caller knows them."""

import re

from batchhess.compat import tf


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
