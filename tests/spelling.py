"""The text of a program that is entered as a function: what a reader would type.

Functions are found in the source of their module; what they take from elsewhere, by a
closure or as the default of an argument, becomes an assignment before them. Needs
Python 3.11, which knows where in a line a function stands.
"""

import ast
import builtins
import collections
import copy
import importlib
import inspect
import re
import sys
import types

import numpy as np
import tensorflow
from programs import Setup

import batchhess
from batchhess.compat import tf

# What every program may use by name.
KNOWN = {
    "tf": tf,
    "np": np,
    "tensorflow": tensorflow,
    "batchhess": batchhess,
    "Setup": Setup,
}


class CannotSpellError(ValueError):
    """A value that no expression is known for."""


def spell(program):
    """The text of a `programs.Program`, from a placeholder `x` of float64, [None, 4].

    Returns:
      (list of str, list of str): definitions, of which other programs may need the
      same; and the lines of this program, the last of which assigns to `y`.
    """
    speller = _Speller()
    result = speller.result(program.build)
    how = []
    if program.flow == "v2":
        how.append("tf.enable_control_flow_v2()")
    shape = [int(n) for n in program.value.shape]
    shape = shape if program.static else [None] + shape[1:]
    if (program.dtype, shape) != ("float64", [None, 4]):
        kind = "tf.placeholder(tf.{}, {}, name='x')"
        how.append("x = " + kind.format(program.dtype, shape))
    return list(speller.definitions.values()), how + speller.lines + result


class _Speller:
    def __init__(self):
        self.definitions = {}  # of modules: from names to their texts
        self.lines = []  # of this program: what its closures hold
        self._names = {}  # from (name, id of value) to the name that it goes by
        self._kept = []  # ids are of what lives

    def result(self, build):
        """The lines that assign to `y`."""
        known, build = self._known(build), inspect.unwrap(build)
        node = None if known else _node_of(build)
        if isinstance(node, ast.Lambda):
            names = self._free(build, node)
            body = _renamed(node.body, dict(names, **{node.args.args[0].arg: "x"}))
            return ["y = " + ast.unparse(body)]
        text = known or self._function(build)  # which may come after lines of its own
        if text.isidentifier() or known:
            return ["y = {}(x)".format(text)]
        return ["y = {}(x)".format(self._defined(text))]

    def _free(self, function, node):
        """From the names that `function` takes from elsewhere to what they go by."""
        values = dict(inspect.getclosurevars(function).nonlocals)
        arguments = node.args.args[len(node.args.args) - len(node.args.defaults) :]
        for argument, default in zip(arguments, node.args.defaults):
            if not isinstance(default, ast.Constant):  # what a loop around has had
                value = inspect.signature(function).parameters[argument.arg].default
                values[argument.arg] = value
        renamed = {name: self._local(name, value) for name, value in values.items()}
        body = node.body if isinstance(node.body, list) else [ast.Expr(node.body)]
        loaded = _loaded(ast.Module(body=body, type_ignores=[]))
        bound = {argument.arg for argument in node.args.args}
        for name in sorted(loaded - set(values) - bound):
            if name in function.__globals__:
                self._define(name, function.__globals__)
        return renamed

    def _local(self, name, value):
        """Assigns a value of a closure; answers the name it goes by."""
        expression = self._known(value)
        if expression is not None and expression != name:
            return expression
        key = name, id(value)
        if key not in self._names:
            self._kept.append(value)
            name = self._names[key] = self._unused(name)
            text = self._expression(value)
            if text.startswith(("def ", "@")):
                self._names[key] = self._defined(text)
            else:
                self.lines.append("{} = {}".format(name, text))
        return self._names[key]

    def _defined(self, text):
        """Enters a local function, under a name that is free; answers the name."""
        first = _name_of(text)
        name = self._unused(first)
        start = "def {}("
        self.lines.append(text.replace(start.format(first), start.format(name), 1))
        return name

    def _unused(self, name):
        functions = {_name_of(line) for line in self.lines}
        taken = set(self._names.values()) | set(self.definitions) | functions
        while name in taken | {"x", "y"}:
            name += "_"
        return name

    def _known(self, value):
        """A short expression for what needs no line of its own, or None."""
        if isinstance(value, (bool, int, float, str, type(None))):
            return repr(value)
        if isinstance(value, tf.DType):
            return "tf." + value.name
        for name, module in self._modules(value):
            self._define(name, module)
            return name
        return _public_names().get(id(value))

    def _modules(self, value):
        """The names by which modules of programs know a callable."""
        for module in list(sys.modules.values()) if callable(value) else ():
            names = vars(module)
            if str(names.get("__file__", "")).startswith(ROOT):
                for name, other in list(names.items()):
                    if other is value and _definition(name, names)[1] is not None:
                        yield name, names

    def _expression(self, value):
        if isinstance(inspect.unwrap(value), types.FunctionType):
            return self._function(inspect.unwrap(value))
        if isinstance(value, (list, tuple, dict, np.ndarray, np.generic)):
            return _literal(value, self._expression)
        known = self._known(value)
        if known is None:
            raise CannotSpellError("{!r}".format(value))
        return known

    def _function(self, function):
        """Its name, if it is one of a module; else its text."""
        name, module = function.__name__, function.__globals__
        known = _definition(name, module)[1] is not None
        if known and inspect.unwrap(module.get(name)) is function:
            self._define(name, module)
            return name
        node = _node_of(function)
        return ast.unparse(_renamed(node, self._free(function, node)))

    def _define(self, name, module):
        """Takes a name of a module along, with all that it needs itself."""
        value = module[name]
        if KNOWN.get(name) is value or name in self.definitions:
            return
        source, node = _definition(name, module)
        if node is None:
            raise CannotSpellError(name)
        self.definitions[name] = None
        for needed in sorted(_loaded(node)):
            if needed in source and needed != name:
                self._define(needed, source)
        del self.definitions[name]  # What it needs comes first.
        self.definitions[name] = ast.unparse(_without_words(node))


def _name_of(text):
    """What a function is called in its text; None of another text."""
    found = re.search(r"^def (\w+)", text, re.MULTILINE)
    return found and found.group(1)


def _definition(name, module):
    """The namespace and the statement in which a name of a module is made."""
    tree = _tree(module["__file__"])
    for node in tree.body:
        imports = isinstance(node, (ast.Import, ast.ImportFrom))
        if imports and name in [alias.asname or alias.name for alias in node.names]:
            home = vars(importlib.import_module(getattr(node, "module", name)))
            ours = home.get("__file__", "").startswith(ROOT)
            return _definition(name, home) if ours else (module, node)
        targets = [getattr(node, "name", None)]
        if isinstance(node, ast.Assign):
            made = [part for target in node.targets for part in ast.walk(target)]
            targets = [getattr(part, "id", None) for part in made]
        if name in targets:
            return module, node
    return module, None


ROOT = __file__[: -len("spelling.py")]
_TREES = {}


def _tree(path):
    if path not in _TREES:
        with open(path, encoding="utf-8") as file:
            _TREES[path] = ast.parse(file.read())
    return _TREES[path]


def _node_of(function):
    """Where a function stands in the source of its module."""
    code = function.__code__
    places = [
        (line, column)
        for line, _, column, _ in code.co_positions()
        if line is not None and column  # what begins a function has none
    ]
    arguments = list(code.co_varnames[: code.co_argcount])
    found = [
        node
        for node in ast.walk(_tree(code.co_filename))
        if isinstance(node, (ast.Lambda, ast.FunctionDef))
        and getattr(node, "name", "<lambda>") == code.co_name
        and [argument.arg for argument in node.args.args] == arguments
        and _first_line(node) == code.co_firstlineno
        and (node.lineno, node.col_offset) <= min(places)
        and max(places) <= (node.end_lineno, node.end_col_offset)
    ]
    if not found:
        raise CannotSpellError(repr(function))
    return max(found, key=lambda node: (node.lineno, node.col_offset))


def _first_line(node):
    decorators = getattr(node, "decorator_list", [])
    return decorators[0].lineno if decorators else node.lineno


def _loaded(node):
    """The names that a statement or function takes from elsewhere."""
    parts = list(ast.walk(node))
    names = {n.id for n in parts if isinstance(n, ast.Name)}
    bound = {n.arg for n in parts if isinstance(n, ast.arg)}
    bound |= {
        n.id for n in parts if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    bound |= {n.name for n in parts if isinstance(n, ast.FunctionDef)}
    return names - bound - set(vars(builtins))


class _Rename(ast.NodeTransformer):
    def __init__(self, names):
        self.names = names

    def visit_Name(self, node):  # noqa: N802
        if node.id not in self.names:
            return node
        return ast.parse(self.names[node.id], mode="eval").body

    def visit_arguments(self, node):
        """Defaults that carry a value of the loop around have become lines."""
        kept = node.args[: len(node.args) - len(node.defaults)]
        for argument, default in zip(node.args[len(kept) :], node.defaults):
            if argument.arg in self.names:
                node.defaults = [d for d in node.defaults if d is not default]
            else:
                kept.append(argument)
        node.args = kept
        return self.generic_visit(node)


def _renamed(node, names):
    return _Rename(names).visit(copy.deepcopy(node))


def _without_words(node):
    """Without docstrings, which `ast.unparse` would keep."""
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:]
    return node


def _literal(value, expression):
    if isinstance(value, (np.ndarray, np.generic)):
        return "np.array({}, {!r})".format(value.tolist(), value.dtype.name)
    if isinstance(value, dict):
        pairs = [
            "{}: {}".format(expression(k), expression(v)) for k, v in value.items()
        ]
        return "{" + ", ".join(pairs) + "}"
    inner = ", ".join(expression(part) for part in value)
    if isinstance(value, list):
        return "[" + inner + "]"
    return "(" + inner + ("," if len(value) == 1 else "") + ")"


def _public_names(known={}):  # noqa: B006
    """From ids of TensorFlow's and numpy's functions to their shortest names."""
    if not known:
        spaces = [("tf", tf), ("np", np), ("tensorflow", tensorflow)]
        for part in ("math", "nn", "linalg", "image", "signal", "losses"):
            spaces.append(("tf." + part, getattr(tf, part, None)))
        spaces.append(("tf.math.special", getattr(tf.math, "special", None)))
        for prefix, space in spaces:
            for name in dir(space) if space is not None else ():
                if not name.startswith("_") and name not in ("keras", "estimator"):
                    value = getattr(space, name, None)
                    if callable(value) or inspect.ismodule(value):
                        known.setdefault(id(value), "{}.{}".format(prefix, name))
    return known


HEAD = """# Second derivatives: the programs

Made by `python benchmarks/outcomes.py --programs docs/outcomes_programs.md`. Each is
a row of [TensorFlow 2.21](outcomes_tf2.md) and of [1.15](outcomes_tf1.md). Before all
of them, and before what several rows use, stands

```py
import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf
import batchhess

tf.disable_v2_behavior()
x = tf.placeholder(tf.float64, [None, 4], name="x")
```

In a checkout, `python benchmarks/outcomes.py --row N` runs row N: it tells the program,
the value that x is fed, and what comes of it by the three ways.

A `Setup` tells more than ys: the x that is meant, what is fed in the middle, options,
and what else is run. It is in `tests/programs`, as are names that stand nowhere above.
"""


def write_programs(sections, out):
    """A page of all programs.

    Args:
      sections: list of (title, list of `programs.Program`).
      out: file to write to.
    """
    spelled = [(title, [(p, spell(p)) for p in rows]) for title, rows in sections]
    used = collections.Counter(
        text for _, rows in spelled for _, (texts, _) in rows for text in texts
    )
    print(HEAD, file=out)
    number, told = 0, []
    for title, rows in spelled:
        print("## {}\n".format(title), file=out)
        known = len(told)
        for _, (texts, _) in rows:
            told += [text for text in texts if used[text] > 1 and text not in told]
        if told[known:]:
            print("```py\n{}\n```\n".format("\n\n".join(told[known:])), file=out)
        for program, (texts, lines) in rows:
            number += 1
            own = [text for text in texts if used[text] == 1]
            print("### Row {}\n".format(number), file=out)
            text = "\n".join(["# " + program.name] + own + lines)
            print("```py\n{}\n```\n".format(text), file=out)
