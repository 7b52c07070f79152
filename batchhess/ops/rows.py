"""Rows of a result that are written where they belong, each once."""

from batchhess.compat import raw_ops, tf
from batchhess.graph.tensors import own_gradient


@tf.RegisterGradient("BatchhessWriteRow")
def _write_row_gradient(op, grad):
    """Of `write_row`, where each row is written once: what is overwritten is unread."""
    return grad, None, tf.gather(grad, op.inputs[1])


def empty_rows(count, size, dtype):
    """A Tensor [count, size] of whatever the memory holds, to be filled by `write_row`.

    `Empty` is never folded into a constant, which `write_row` would then change.
    """
    return raw_ops.Empty(shape=tf.stack([count, size]), dtype=dtype)


def write_row(rows, index, row):
    """`rows` with `row` at `index`, in the same memory; each index only once.

    TensorArray.stack and tf.concat hold the result twice, and tensor_scatter_nd_update
    copies all rows each time in 2.x. TensorFlow has registered no gradient for this op.
    """
    with own_gradient("InplaceUpdate", "BatchhessWriteRow"):
        return raw_ops.InplaceUpdate(
            x=rows, i=tf.reshape(index, [1]), v=tf.reshape(row, [1, -1])
        )
