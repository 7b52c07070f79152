"""Branches, loops, calls and lists."""

from batchhess.compat import raw_ops, tf
from op_programs.base import called, program, under


# Branches, loops, calls and lists.
def cond(inside=lambda x: x):
    return lambda x: tf.cond(
        tf.random_uniform([]) < 2, lambda: tf.exp(inside(x)), lambda: x**2
    )


def case(inside=lambda x: x):
    return lambda x: tf.switch_case(
        tf.cast(tf.random_uniform([]) < 2, tf.int32),
        [lambda: x**2, lambda: tf.exp(inside(x))],
    )


def loop(inside=lambda x: x):
    return lambda x: tf.while_loop(
        lambda i, _: i < 3, lambda i, a: (i + 1, tf.sin(inside(a)) + x), (0, x)
    )[1]


def printed(x):
    return tf.Print(x, [])


program("cond_v1", under(False, cond()), blocks=False)
program("cond_v2", under(True, cond()), blocks=False)
program("cond_with_effect", under(True, cond(printed)), blocks=False)
program("case_v1", under(False, case()), blocks=False)
program("case_v2", under(True, case()), blocks=False)
program("case_with_effect", under(True, case(printed)), blocks=False)
program("loop_v2", under(True, loop()), blocks=False)
program("loop_with_effect", under(True, loop(printed)), blocks=False)
program("call", called(lambda x: tf.exp(x)), blocks=False)
program("call_with_effect", called(lambda x: tf.exp(printed(x))), blocks=False)


def listed(x):
    """Of 16 vectors [N]."""
    return raw_ops.TensorListFromTensor(tensor=tf.transpose(x), element_shape=[-1])


def taken(handle, i):
    return raw_ops.TensorListGetItem(
        input_handle=handle, index=i, element_shape=[-1], element_dtype=tf.float64
    )


def stacked(handle):
    return (
        tf.transpose(
            raw_ops.TensorListStack(
                input_handle=handle, element_shape=[-1], element_dtype=tf.float64
            )
        )
        ** 3
    )


program("list", lambda x: stacked(listed(x)), blocks=False)
program(
    "list_get",
    lambda x: tf.transpose(taken(listed(x), 1)[None] * taken(listed(x), 2) ** 2),
    blocks=False,
)
program(
    "list_set",
    lambda x: stacked(
        raw_ops.TensorListSetItem(input_handle=listed(x), index=3, item=x[:, 0] ** 2)
    ),
    blocks=False,
)
program(
    "list_gather",
    lambda x: (
        tf.transpose(
            raw_ops.TensorListGather(
                input_handle=listed(x),
                indices=[1, 0, 3],
                element_shape=[-1],
                element_dtype=tf.float64,
            )
        )
        ** 3
    ),
    blocks=False,
)
program(
    "list_scatter",
    lambda x: stacked(
        raw_ops.TensorListScatter(
            tensor=tf.transpose(x)[:3], indices=[2, 0, 1], element_shape=[-1]
        )
    ),
    blocks=False,
)
program(
    "list_scatter_v2",
    lambda x: stacked(
        raw_ops.TensorListScatterV2(
            tensor=tf.transpose(x)[:3],
            indices=[2, 0, 1],
            element_shape=[-1],
            num_elements=3,
        )
    ),
    blocks=False,
)
