"""The answers that a command or a pipeline may ask for, by name."""

from batchhess.operators import hessian_diagonals, hessians, laplacians
from batchhess.streaming.naming import as_key, numbered

_ANSWERS = {
    "hessians": hessians,
    "diagonals": hessian_diagonals,
    "laplacians": laplacians,
}


def build_answers(answer, ys, xs, **options):
    """Builds what is asked for.

    Args:
      answer: "hessians", "diagonals" or "laplacians".
      ys: list of Tensors.
      xs: list of Tensors.
      **options: as in `hessians`.

    Returns:
      dict from a name to a Tensor: `answer`, with the x's name if there are several.
    """
    if answer not in _ANSWERS:
        raise ValueError(
            "answer is {!r}, not of {}.".format(answer, ", ".join(sorted(_ANSWERS)))
        )
    built = _ANSWERS[answer](ys, xs, **options)
    if len(xs) == 1:
        return {answer: built[0]}
    names = numbered("{}_{}".format(answer, as_key(x.name)) for x in xs)
    return dict(zip(names, built))
