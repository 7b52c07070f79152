"""Complex numbers, sparse factors, matrices, products and systems."""

from batchhess.compat import raw_ops, tf
from op_programs.base import (
    POSITIVE,
    UNIT,
    constant,
    double,
    general,
    matrix,
    positive_definite,
    program,
    slope,
    symmetric_matrix,
)


# Complex numbers between x and f.
def as_complex(x):
    return tf.complex(x[:, :8], x[:, 8:])


def power_of(z):
    return tf.square(tf.math.real(z)) * tf.math.imag(z) + tf.math.real(z)


program(
    "complex",
    lambda x: tf.math.real(as_complex(x) * tf.math.conj(as_complex(x)) ** 2),
    blocks=False,
)
program("complex_abs", lambda x: tf.abs(as_complex(x)), POSITIVE, blocks=False)
for number, shape in (("", [-1, 8]), ("2D", [-1, 2, 4]), ("3D", [-1, 2, 2, 2])):
    suffix = number.lower()
    for direction in ("fft", "ifft"):
        program(
            direction + suffix,
            lambda x, f=direction + suffix, s=shape: power_of(
                getattr(tf.signal, f)(tf.reshape(as_complex(x), s))
            ),
            blocks=False,
        )


def single(x):
    return tf.cast(x, tf.float32)


# Of real numbers, in float32: 1.15 has no other.
for name, shape, build in (
    ("rfft", [-1, 16], lambda x: power_of(tf.signal.rfft(x))),
    ("rfft2d", [-1, 4, 4], lambda x: power_of(tf.signal.rfft2d(x))),
    ("irfft", [-1, 2, 8], lambda x: tf.signal.irfft(tf.complex(x, x**2)) ** 3),
    ("irfft2d", [-1, 4, 4], lambda x: tf.signal.irfft2d(tf.complex(x, x**2)) ** 3),
):
    program(
        name,
        lambda x, b=build, s=shape: tf.cast(b(tf.reshape(single(x), s)), tf.float64),
        UNIT,
        step=0.1,
        tolerance=1e-3,
        blocks=False,
    )


# A sparse factor.
def sparse():
    return tf.SparseTensor([[0, 1], [1, 3], [1, 15]], double([1.0, 2.0, 3.0]), [3, 16])


program(
    "sparse_times_dense",
    lambda x: (
        tf.transpose(tf.sparse.sparse_dense_matmul(sparse(), x, adjoint_b=True)) ** 3
    ),
    blocks=False,
)
program(
    "sparse_times_columns",
    lambda x: (
        tf.transpose(tf.sparse.sparse_dense_matmul(sparse(), tf.transpose(x))) ** 3
    ),
    blocks=False,
)

# Matrices.
program("cholesky", lambda x: tf.cholesky(positive_definite(x)), UNIT)
program("matrix_square_root", lambda x: tf.linalg.sqrtm(positive_definite(x)), UNIT)
program("matrix_exponential", lambda x: tf.linalg.expm(matrix(x)), UNIT, blocks=False)
program("qr", lambda x: tf.linalg.qr(general(x))[1], UNIT)
program("qr_q", lambda x: tf.linalg.qr(general(x))[0], UNIT)
program(
    "svd", lambda x: tf.linalg.svd(general(x), compute_uv=False), UNIT, blocks=False
)
program(
    "svd_vectors",
    lambda x: tf.stack([tf.square(t) for t in tf.linalg.svd(general(x))[1:]], 1),
    UNIT,
    blocks=False,
)
program("eigh", lambda x: tf.linalg.eigh(symmetric_matrix(x))[0], UNIT, blocks=False)
program(
    "eigh_vectors",
    lambda x: tf.linalg.eigh(symmetric_matrix(x))[1] ** 2,
    UNIT,
    blocks=False,
)
program("band_part", lambda x: tf.linalg.band_part(matrix(x), 1, 0) ** 3)
program("matrix_inverse", lambda x: tf.linalg.inv(general(x)), UNIT)
program(
    "adjoint_inverse",
    lambda x: tf.linalg.inv(general(x), adjoint=True),
    UNIT,
    alike=lambda x: tf.linalg.inv(tf.linalg.matrix_transpose(general(x))),
)
program("determinant", lambda x: tf.linalg.det(general(x))[:, None], UNIT)
program("slogdet", lambda x: tf.linalg.slogdet(general(x))[1][:, None], UNIT)
program("logdet", lambda x: tf.linalg.logdet(positive_definite(x))[:, None], UNIT)
program("diag", lambda x: raw_ops.MatrixDiag(diagonal=x[:, :4]) * matrix(x) ** 2)
program("diag_part", lambda x: raw_ops.MatrixDiagPart(input=matrix(x)) ** 3)
program(
    "set_diag",
    lambda x: raw_ops.MatrixSetDiag(input=matrix(x), diagonal=x[:, :4] ** 2) ** 3,
)
program(
    "set_constant_diag",
    lambda x: (
        raw_ops.MatrixSetDiag(input=matrix(x), diagonal=tf.zeros_like(x[:, :4])) ** 3
    ),
)
for version, options, last in (("V2", {}, 0), ("V3", {"align": "LEFT_RIGHT"}, 1)):
    # TensorFlow's gradient of bands is wrong in the second version.
    def band(x, last=last):
        return tf.reshape(x[:, : 4 * last + 4], [-1, last + 1, 4] if last else [-1, 4])

    program(
        "diag_" + version,
        lambda x, v=version, o=options, k=last, band=band: (
            getattr(raw_ops, "MatrixDiag" + v)(
                diagonal=band(x),
                k=[0, k],
                num_rows=4,
                num_cols=4,
                padding_value=double(0.5),
                **o,
            )
            ** 3
        ),
        needs="MatrixDiag" + version,
    )
    program(
        "diag_part_" + version,
        lambda x, v=version, o=options, k=last: (
            getattr(raw_ops, "MatrixDiagPart" + v)(
                input=matrix(x), k=[-k, 2 * k], padding_value=double(0.5), **o
            )
            ** 3
        ),
        needs="MatrixDiagPart" + version,
    )
    program(
        "set_diag_" + version,
        lambda x, v=version, o=options, k=last: (
            getattr(raw_ops, "MatrixSetDiag" + v)(
                input=matrix(x), diagonal=x[:, : 4 - k] ** 2, k=k, **o
            )
            ** 3
        ),
        needs="MatrixSetDiag" + version,
    )

# Products and systems.
program("matmul", lambda x: tf.tanh(tf.matmul(x, constant(16, 3))))
program("slope_of_matmul", slope(lambda x: tf.matmul(tf.sin(matrix(x)), matrix(x))))
program(
    "matmul_of_constants",
    lambda x: tf.transpose(tf.matmul(constant(3, 16), x, transpose_b=True)) ** 3,
)
program(
    "matmul_flipped",
    lambda x: (
        tf.transpose(
            raw_ops.MatMul(a=constant(16, 3), b=x, transpose_a=True, transpose_b=True)
        )
        ** 3
    ),
)
for version in ("", "V2", "V3"):
    options = {"Tout": tf.float64} if version == "V3" else {}
    for flip in (False, True):
        program(
            "batch_matmul{}_{}".format(version, flip),
            lambda x, v=version, f=flip, o=options: getattr(raw_ops, "BatchMatMul" + v)(
                x=matrix(x), y=matrix(x), adj_x=f, adj_y=not f, **o
            ),
            UNIT,
            needs="BatchMatMul" + version,
        )
program(
    "batch_matmul_of_constants", lambda x: tf.matmul(matrix(x), constant(1, 4, 3)) ** 3
)
program(
    "einsum",
    lambda x: raw_ops.Einsum(inputs=[matrix(x), matrix(x)], equation="nij,nkj->nik"),
    UNIT,
    needs="Einsum",
    since="2",
)
program(
    "einsum_ellipsis",
    lambda x: (
        raw_ops.Einsum(inputs=[matrix(x), constant(4, 3)], equation="...ij,jk->...ki")
        ** 3
    ),
    UNIT,
    needs="Einsum",
    since="2",
)
program("einsum_of_tf", lambda x: tf.einsum("nij,njk->nk", matrix(x), matrix(x)), UNIT)
program("solve", lambda x: tf.linalg.solve(general(x), matrix(x)[..., :2]), UNIT)
program(
    "solve_adjoint",
    lambda x: tf.linalg.solve(general(x), matrix(x), adjoint=True),
    UNIT,
)
program(
    "solve_by_constants",
    lambda x: tf.transpose(tf.linalg.solve(constant(16, 16), tf.transpose(x))) ** 3,
)
program(
    "triangular_solve",
    lambda x: tf.linalg.triangular_solve(general(x), matrix(x)[..., :2]),
    UNIT,
)
program(
    "triangular_solve_upper",
    lambda x: tf.linalg.triangular_solve(
        general(x), matrix(x), lower=False, adjoint=True
    ),
    UNIT,
)
program(
    "attention",
    lambda x: tf.matmul(
        tf.nn.softmax(tf.matmul(matrix(x), matrix(x), transpose_b=True)), matrix(x)
    ),
    UNIT,
)
