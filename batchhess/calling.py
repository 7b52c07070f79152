"""Public functions: all that goes wrong in one of them begins with its name."""

import contextlib
import functools
import inspect
import re
import threading
from typing import Any, Callable, Optional, TypeVar

from batchhess.compat import do_not_convert, tf

_here = threading.local()
_Function = TypeVar("_Function", bound=Callable[..., Any])


def public(
    like: Optional[Callable[..., Any]] = None,
) -> Callable[[_Function], _Function]:
    """Decorates a public function, and leaves its signature as it is.

    What it raises begins with its name, and so does what fails in a run of the ops that
    it has built. Where one public function calls another, the name is that of the one
    that the user has called.

    Args:
      like: function that tells what is common. Arguments that the docstring of the
        decorated function does not tell of are as there, and so are errors if it tells
        of none; None if the docstring is whole.

    Returns:
      a decorator.
    """

    def decorate(function):
        if like is not None and function.__doc__:  # python -OO has none.
            function.__doc__ = _completed(function, like)

        @functools.wraps(function)
        def called(*args, **kwargs):
            with _in_name_of(function):
                return function(*args, **kwargs)

        return do_not_convert(called)

    return decorate


def caller():
    """The name of the public function that the user has called; None outside of one."""
    return getattr(_here, "caller", None)


def takes(option):
    """Whether the public function that the user has called has that argument."""
    return option in getattr(_here, "options", ())


def told(message):
    """`message`, after the name of the public function that the user has called."""
    return message if caller() is None else "{}: {}".format(caller(), message)


def assert_that(condition, message, *values):
    """Builds an Operation that fails with InvalidArgumentError unless `condition`.

    Args:
      condition: bool Tensor [].
      message: str, what the error tells; `values`: Tensors and str that follow it.
    """
    return _assertion(condition, [told(message)] + list(values))


def assert_each(conditions, messages):
    """The same for each of `conditions`, a bool Tensor [P], with its one of `messages`.

    It tells the first that does not hold.
    """
    first = tf.argmin(tf.cast(conditions, tf.int32))
    message = tf.gather(tf.constant([told(text) for text in messages]), first)
    return _assertion(tf.reduce_all(conditions), [message])


def _assertion(condition, data):
    built = tf.debugging.Assert(condition, data)
    if hasattr(built, "mark_used"):  # Else it complains where a build is refused.
        built.mark_used()
    return built


@contextlib.contextmanager
def _in_name_of(function):
    if caller() is not None:
        yield
        return
    _here.caller = function.__name__
    _here.options = inspect.signature(function).parameters
    try:
        yield
    except Exception as error:
        # Errors of TensorFlow's runtime have more arguments, and a KeyError no message.
        is_told = len(error.args) == 1 and isinstance(error.args[0], str)
        if is_told and not isinstance(error, KeyError):
            error.args = (told(error.args[0]),)
        raise
    finally:
        _here.caller, _here.options = None, ()


def _completed(function, like):
    """The docstring of `function`, with what `like` tells of the same arguments."""
    whole, sections = _sections(function)
    common = _sections(like)[1]
    own, shared = _entries(sections["Args"]), _entries(common["Args"])
    names = inspect.signature(function).parameters
    sections["Args"] = "\n".join(own.get(n) or shared[n] for n in names)
    sections.setdefault("Raises", common["Raises"])
    told_of = ["{}:\n{}".format(name, text) for name, text in sections.items()]
    return "\n\n".join([whole] + told_of)


def _sections(function):
    """What a docstring says first, and a dict of its sections, unindented."""
    first, *rest = re.split(
        r"\n\n(Args|Returns|Raises):\n", inspect.getdoc(function) + "\n\n"
    )
    sections = {"Args": "", "Returns": ""}
    sections.update((name, text.rstrip()) for name, text in zip(rest[::2], rest[1::2]))
    return first.rstrip(), sections


def _entries(text):
    """A dict from the name of each argument in a section to its lines."""
    found = re.split(r"(?m)^(?=  \w+:)", text)
    return {re.match(r"  (\w+):", e).group(1): e.rstrip() for e in found if e.strip()}
