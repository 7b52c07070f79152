"""Numbers in the dtype that is asked for, none of them another number."""

import numpy as np


def cast(part, tensor, rows=None, axis=0):
    """`part` in the dtype of `tensor`, if that can hold it.

    Floats are rounded to narrower floats. All else that would be another number there
    is refused: a fraction or a large number as an integer, a large number as Inf, an
    integer as its neighbour, a complex number as its real part.

    Args:
      part: array.
      tensor: Tensor that it is fed to.
      rows: for the message, the observations that it holds along `axis`: the number of
        the first, or an array of all; None where it does not hold observations.
      axis: int.

    Raises:
      TypeError: it cannot hold numbers of this kind.
      ValueError: it cannot hold one of these numbers.
    """
    base = tensor.dtype.base_dtype
    wanted = np.dtype(base.as_numpy_dtype)
    if base.name == "string" and part.dtype.kind == "O":
        _refuse_no_words(part, tensor, rows, axis)
    if part.dtype == wanted:
        return part
    if wanted.kind == "O" and (base.name != "string" or part.dtype.kind in "SU"):
        return part
    kind = "f" if part.dtype.name == "bfloat16" else part.dtype.kind
    allowed = {"b": "biu", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc"}.get(
        "f" if base.is_floating else wanted.kind, ""
    )
    if kind not in allowed:
        raise TypeError(
            "'{}' is {}, and what is fed for it is {}: it cannot hold that.".format(
                tensor.name, base.name, part.dtype
            )
        )
    with np.errstate(over="ignore", invalid="ignore"):
        found = part.astype(wanted)
        if kind in "iu":
            lost = changed(found, part)
        else:
            is_complex = found.dtype.kind == "c"
            lost = np.isinf(found.astype(np.complex128 if is_complex else float))
            lost &= ~np.isinf(part)
    if np.any(lost):
        _refuse_first(lost, part, tensor, rows, axis)
    return found


def _refuse_no_words(part, tensor, rows, axis):
    """Raises unless Python objects are words: a missing one may be None, or NaN."""
    lost = [not isinstance(word, (str, bytes)) for word in part.ravel().tolist()]
    if any(lost):
        _refuse_first(np.reshape(lost, part.shape), part, tensor, rows, axis)


def _refuse_first(lost, part, tensor, rows, axis):
    where = tuple(int(i) for i in np.argwhere(lost)[0])
    number = part[where]
    raise ValueError(
        "'{}' is {}, and cannot hold {!r}, which is fed for it{}.".format(
            tensor.name,
            tensor.dtype.base_dtype.name,
            number.item() if isinstance(number, np.generic) else number,
            _told(where, rows, axis),
        )
    )


def _told(where, rows, axis):
    """An index in words."""
    if rows is None:
        return " at {}".format(list(where)) if where else ""
    rest = where[:axis] + where[axis + 1 :]
    columns = ", column {}".format(", ".join(map(str, rest))) if rest else ""
    row = rows + where[axis] if isinstance(rows, int) else rows[where[axis]]
    return " at observation {}{}".format(row, columns)


def changed(found, part):
    """Where integers `part` have become others in `found`, their cast."""
    if found.dtype.kind == "c":
        found = found.real
    if found.dtype.name == "bfloat16":
        found = found.astype(np.float32)
    if found.dtype.kind == "f":  # Back again, where that cannot overflow.
        limit = float(np.iinfo(part.dtype).max) + 1
        inside = found.astype(float) < limit
        back = np.where(inside, found, 0).astype(part.dtype)
        return (back != part) | ~inside
    return (found.astype(part.dtype) != part) | ((found < 0) != (part < 0))
