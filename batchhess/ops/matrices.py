"""One matrix after another: the observations lie before the last two axes."""

import numpy as np

from batchhess.compat import IS_V1, raw_ops, tf, where
from batchhess.graph.tensors import has_own_gradient, own_gradient
from batchhess.ops.inputs import NEVER, PARAMETER, each
from batchhess.ops.shapes import padded
from batchhess.ops.sizes import ints_of
from batchhess.ops.states import (
    FREE,
    NotProvenError,
    alive_of,
    copied,
    need_batched,
    rank_of,
)
from batchhess.ops.table import (
    AFFINE,
    OF_COMPLEX,
    SOUND,
    UNKNOWN,
    YES,
    Fault,
    Guard,
    Rewrite,
    declared,
    no_gradient_by,
    op,
)


def _matrices(op, states, walk):
    inputs = alive_of(op, states)
    axes = {(need_batched(s).axis, s.origin) for _, s in inputs}
    if states[0].kind == FREE:
        raise NotProvenError("sets observations into a matrix")
    before = rank_of(op.inputs[0]) - states[0].axis > 2
    if len(axes) > 1 or not before:
        raise NotProvenError("mixes along the observation axis")
    return inputs[0][1]


def _set_diagonal(op, states, walk):
    for tensor, state in alive_of(op, states)[1:]:
        if rank_of(tensor) - need_batched(state).axis <= _diagonal_axes(op, 2):
            raise NotProvenError("mixes along the observation axis")
    return _matrices(op, states, walk)


def _diagonal_input(op, place, states, walk):
    """A diagonal for each observation; or which one, and what it is padded with."""
    return states[0].axis if place == 1 else None


def _diagonal_axes(op, place):
    """The last axes that hold one set of diagonals: 1, or 2 where it is a band."""
    if len(op.inputs) <= place:
        return 1
    which = ints_of(op.inputs[place])
    return 1 if which is not None and len(set(which)) == 1 else 2


def _to_diagonal(op, states, walk):
    state = need_batched(states[0])
    if any(s.kind != FREE for s in states[1:]):
        return copied(states)
    if rank_of(op.inputs[0]) - state.axis <= _diagonal_axes(op, 1):
        return copied(states)
    return state


_PARAMETERS = each(NEVER, PARAMETER)


def _bands(place):
    """The fault of an op of which input `place` tells the diagonals."""
    return Fault(
        lambda op, depends: _diagonal_axes(op, place) > 1,
        "aligns the diagonals of a band in another way than its gradient does",
        "Use tf.linalg.diag, diag_part and set_diag of this TensorFlow.",
        spoils_values=True,
    )


def _not_by_padding(place):
    return no_gradient_by(place, of="what it pads with")


def _is_symmetric(op):
    """1 for each matrix that equals its adjoint to rounding, or 0."""
    matrix = op.inputs[0]
    apart = tf.abs(matrix - tf.linalg.adjoint(matrix))
    blur = np.sqrt(np.finfo(matrix.dtype.real_dtype.as_numpy_dtype).eps)
    scale = tf.sqrt(tf.abs(tf.linalg.diag_part(matrix)))  # No element is larger than
    allowed = blur * scale[..., None] * scale[..., None, :]  # the product of two.
    is_apart = tf.reduce_any(apart > allowed, axis=[-2, -1])
    return tf.cast(tf.logical_not(is_apart), tf.int32)


op("Qr", _matrices, NEVER, twice=SOUND, factorizes=True)
op(
    "Cholesky",
    _matrices,
    NEVER,
    twice=SOUND,
    factorizes=True,
    guard=Guard(
        "Fill both of its triangles: its values are of the lower one alone, and its "
        "gradient is shared between both.",
        zeros=_is_symmetric,
        why="a matrix that is not symmetric",
        wrong_once=True,
        convention=True,
    ),
)
op(
    "MatrixSquareRoot",
    _matrices,
    NEVER,
    twice=SOUND,
    factorizes=True,
    faults=[OF_COMPLEX],
)
# No gradient is registered.
op("MatrixExponential MatrixLogarithm", _matrices, NEVER)


def _gaps(op):
    """By how much neighbouring eigenvalues differ; 0 if by no more than rounding."""
    values = op.outputs[0]
    gaps = tf.abs(values[..., 1:] - values[..., :-1])
    largest = tf.reduce_max(tf.abs(values), axis=-1, keepdims=True)
    blur = np.sqrt(np.finfo(values.dtype.real_dtype.as_numpy_dtype).eps)
    return where(gaps > blur * largest, gaps, tf.zeros_like(gaps))


def _factors(op):
    """Without vectors it writes none of them."""
    has_vectors = op.get_attr("compute_uv" if op.type == "Svd" else "compute_v")
    return op.outputs if has_vectors else op.outputs[:1]


# Where two eigenvalues are equal, 2.x takes 1 / 0 for 0; before, it was no number.
op(
    "SelfAdjointEigV2 Svd",
    _matrices,
    NEVER,
    twice=SOUND if IS_V1 else UNKNOWN,
    factorizes=True,
    guard=None
    if IS_V1
    else Guard(
        "Write what is wanted of the matrix without them: its powers, trace, "
        "determinant, inverse or solutions. Or pass method='differences'.",
        zeros=_gaps,
        why="two equal eigenvalues or singular values",
    ),
    written=_factors,
)
op("MatrixBandPart", _matrices, _PARAMETERS, YES, twice=SOUND)
op("MatrixDiagPart", _matrices, NEVER, YES, twice=SOUND)
op(
    "MatrixDiagPartV3",
    _matrices,
    _PARAMETERS,
    padded,
    twice=SOUND,
    faults=[_not_by_padding(2)],
)
op(
    "MatrixDiagPartV2",
    _matrices,
    _PARAMETERS,
    padded,
    twice=SOUND,
    faults=[_bands(1), _not_by_padding(2)],
)
op(
    "MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3",
    _set_diagonal,
    each(NEVER, _diagonal_input),
    AFFINE,
    twice=SOUND,
)
op("MatrixDiag", _to_diagonal, NEVER, YES, twice=SOUND)
op(
    "MatrixDiagV3",
    _to_diagonal,
    _PARAMETERS,
    padded,
    twice=SOUND,
    faults=[_not_by_padding(4)],
)
op(
    "MatrixDiagV2",
    _to_diagonal,
    _PARAMETERS,
    padded,
    twice=SOUND,
    faults=[_bands(1), _not_by_padding(4)],
)


# On 1.15 the second derivatives of determinants, and of the adjoint of an inverse, are
# those of symmetric matrices. There they get others, right however often.


def _is_old(op, depends):
    return IS_V1 and depends([op.inputs[0]])


def _is_old_determinant(op, depends):
    return _is_old(op, depends) and not has_own_gradient(op)


def _is_old_adjoint(op, depends):
    is_old = op.get_attr("adjoint") and _is_old(op, depends)
    return is_old and not has_own_gradient(op)


@tf.RegisterGradient("BatchhessDeterminant")
def _determinant_gradient(op, grad):
    return (grad * op.outputs[0])[..., None, None] * _adjoint_inverse(op)


@tf.RegisterGradient("BatchhessLogDeterminant")
def _log_determinant_gradient(op, _, grad):
    return grad[..., None, None] * _adjoint_inverse(op)


def _adjoint_inverse(op):
    with own_gradient("MatrixInverse", "BatchhessAdjointInverse"):
        return raw_ops.MatrixInverse(input=op.inputs[0], adjoint=True)


@tf.RegisterGradient("BatchhessAdjointInverse")
def _adjoint_inverse_gradient(op, grad):
    inverse = op.outputs[0]
    return -tf.matmul(inverse, tf.matmul(grad, inverse, adjoint_a=True))


def _determinant(op):
    with own_gradient(op.type, "BatchhessDeterminant"):
        return [raw_ops.MatrixDeterminant(input=op.inputs[0])]


def _log_determinant(op):
    with own_gradient(op.type, "BatchhessLogDeterminant"):
        return list(raw_ops.LogMatrixDeterminant(input=op.inputs[0]))


def _inverse(op):
    return [tf.linalg.inv(tf.linalg.adjoint(op.inputs[0]))]


def _as_of_symmetric(applies, cure):
    """The fault of one that could not be rewritten."""
    return Fault(
        applies,
        "takes the matrix for a symmetric one",
        cure + "; or build it outside of functions, branches and loops, and not in "
        "front of an op with a gradient of its author's own; or pass "
        "method='differences'.",
    )


_REAL_PARTS = ("Real", "ComplexAbs")


def _bend_logarithm(op, adjoints, tangents, times):
    """d(A^-1)' = -(A^-1 T A^-1)'; of the sign nothing is known but that it stays."""
    if adjoints[1] is None:
        return None
    inverse = tf.linalg.inv(op.inputs[0])
    turned = tf.linalg.matrix_transpose(times(tangents, inverse, False))
    return -adjoints[1][..., None, None] * times((turned, False), inverse, True)


def _is_more_than_its_logarithm(op, depends):
    """Whether anything reads more of it than the real part of the logarithm."""
    sign, logarithm = (
        [r for r in output.consumers() if not declared(r).size_only]
        for output in op.outputs
    )
    is_more = sign or any(reader.type not in _REAL_PARTS for reader in logarithm)
    return bool(is_more) and OF_COMPLEX.holds(op, depends)


# The logarithm has an imaginary part of zeros, the gradient of which is not zero.
_COMPLEX_SIGN = OF_COMPLEX._replace(holds=_is_more_than_its_logarithm)

_IF_POSITIVE = "Use tf.linalg.logdet if the matrix is positive definite"

op(
    "MatrixDeterminant",
    _matrices,
    NEVER,
    twice=SOUND,
    factorizes=True,
    faults=[OF_COMPLEX, _as_of_symmetric(_is_old_determinant, _IF_POSITIVE)],
    rewrites=[Rewrite(_is_old_determinant, _determinant)],
)
op(
    "LogMatrixDeterminant",
    _matrices,
    NEVER,
    twice=SOUND,
    factorizes=True,
    faults=[_COMPLEX_SIGN, _as_of_symmetric(_is_old_determinant, _IF_POSITIVE)],
    rewrites=[Rewrite(_is_old_determinant, _log_determinant)],
    bend=_bend_logarithm,
)
op(
    "MatrixInverse",
    _matrices,
    NEVER,
    twice=SOUND,
    factorizes=True,
    faults=[
        _as_of_symmetric(
            _is_old_adjoint, "Transpose the matrix instead of passing adjoint=True"
        )
    ],
    rewrites=[Rewrite(_is_old_adjoint, _inverse)],
)
op("MatrixSolveLs", faults=[no_gradient_by(2, of="its regularizer")])
