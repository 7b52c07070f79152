"""What the tensors of a model from a file are called."""

import difflib

# The one that TensorFlow Serving takes if a request names none.
_DEFAULT = "serving_default"

_NOTHING = (
    " It answers nothing, as a SavedModel without signatures: pass signatures= to "
    "tf.saved_model.save."
)


def read_signatures(graph, definitions, aliases):
    """The signatures of a SavedModel.

    Args:
      graph: tf.Graph.
      definitions: dict from a name to a SignatureDef.
      aliases: dict from a name in the file to that in the graph.

    Returns:
      dict from a name to inputs and outputs: two dicts from a key to a Tensor.

    Raises:
      KeyError, ValueError or TypeError: one names what is not there.
    """
    found = {}
    for name, signature in sorted(definitions.items()):
        if name.startswith("__saved_model"):
            continue
        sides = []
        for infos in (signature.inputs, signature.outputs):
            named = {key: info.name for key, info in infos.items() if info.name}
            sides.append(
                {
                    key: graph.get_tensor_by_name(aliases.get(full, full))
                    for key, full in sorted(named.items())
                }
            )
        found[name] = tuple(sides)
    return found


class Names:
    """The names that tensors of a model have: their own, and keys of signatures.

    Args:
      path: str, of the file, for errors.
      graph: tf.Graph.
      aliases: dict from a name in the file to that in the graph.
      signatures: as of `read_signatures`.
      signature: str, of which one the keys are meant; None for any, and if a key means
        several Tensors for "serving_default".
      main: list of Tensors that are told of before others.

    Raises:
      ValueError: there is no such signature.
    """

    def __init__(self, path, graph, aliases, signatures, signature, main):
        if signature is not None and signature not in signatures:
            raise ValueError(
                "'{}' has no signature '{}'; it has: {}.".format(
                    path, signature, ", ".join(signatures) or "none"
                )
            )
        self._path, self._graph, self._aliases = path, graph, aliases
        self._main = main
        self._signatures, self._signature = signatures, signature

    def find(self, name):
        """The Tensor of that name.

        Raises:
          ValueError: there is none, or there are several.
        """
        found = _different(self._own(name) + self._keyed(name))
        if len(found) > 1:
            helps = self._signature is None and any(
                len(_different(self._own(name) + self._in(key, name))) == 1
                for key in self._signatures
                if self._in(key, name)
            )
            raise ValueError(
                "'{}' has several tensors called '{}': {}. Pass one of these "
                "names{}.".format(
                    self._path,
                    name,
                    ", ".join("'{}'".format(tensor.name) for tensor in found),
                    ", or signature=KEY (--signature)" if helps else "",
                )
            )
        if not found:
            others = [key for key in self._signatures if self._in(key, name)]
            raise ValueError(
                "'{}' has no tensor '{}'{}. The nearest names are: {}.{}".format(
                    self._path,
                    name,
                    # One that was not asked for.
                    ", but in signature '{}'".format(others[0]) if others else "",
                    ", ".join(self._nearest(name)) or "none",
                    "" if self._signatures or self._main else _NOTHING,
                )
            )
        return found[0]

    def _own(self, name):
        """The Tensors that have that name in the graph."""
        full = name if ":" in name else name + ":0"
        try:
            return [self._graph.get_tensor_by_name(self._aliases.get(full, full))]
        except (KeyError, ValueError):
            return []

    def _keyed(self, name):
        """The Tensors that `name` is a key of."""
        found = {key: self._in(key, name) for key in self._taken()}
        every = [tensor for tensors in found.values() for tensor in tensors]
        if len(_different(every)) > 1 and found.get(_DEFAULT):
            return found[_DEFAULT]
        return every

    def _in(self, signature, name):
        """The Tensors that `name` is a key of in a signature."""
        return [side[name] for side in self._signatures[signature] if name in side]

    def _taken(self):
        """The names of the signatures whose keys count."""
        return list(self._signatures) if self._signature is None else [self._signature]

    def _nearest(self, name):
        sides = [side for key in self._taken() for side in self._signatures[key]]
        operations = self._graph.get_operations()
        known = {t.name for op in operations for t in op.outputs}.union(*sides)
        short = {}
        for one in sorted(known, key=len):
            base = one.partition(":")[0]
            for key in (one, base, base.rpartition("/")[2]):
                short.setdefault(key.lower(), one)
        wanted = name.lower()
        close = difflib.get_close_matches(wanted, short, 8, 0.6)
        close += difflib.get_close_matches(wanted.partition(":")[0], short, 4, 0.6)
        near = list(dict.fromkeys(short[key] for key in close))[:5]
        main = [tensor.name for tensor in self._main][:6]
        own = {name.partition(":")[0] for name in main}.union(*sides)
        if any(name.partition(":")[0] in own for name in near):
            return near
        return main + near


def _different(tensors):
    """Each of them once. TensorFlow 2 may compare tensors by value, so by name."""
    return list({tensor.name: tensor for tensor in tensors}.values())
