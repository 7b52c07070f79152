"""Counts the multiplications of each method as they run, beside those of one gradient.

Run: python benchmarks/flops.py [workload ...]

Every product of matrices and every convolution that a run executes is taken from its
trace, with the shapes that it had; a multiplication and an addition are two operations.
"""

import argparse
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from workloads import WORKLOADS, graph_of, trace

import batchhess
from batchhess.compat import VERSION, tf

PRODUCT = re.compile(r" = _?(?:Mkl|Fused|Native)*(BatchMatMul\w*|MatMul|Conv2D\w*)\(")


def operations(session, fetch, feed):
    """The floating-point operations of all products in one run."""
    nodes = trace(tf, session, fetch, feed)
    shapes = {}
    for node in nodes:
        for output in node.output[:1]:
            shape = [d.size for d in output.tensor_description.shape.dim]
            shapes.setdefault(node.node_name, shape)
    total = 0
    for node in nodes:
        found = PRODUCT.search(node.timeline_label)
        if found:
            names = node.timeline_label[found.end() :].rstrip(")").split(", ")[:3]
            known = [shapes.get(name.split(":")[0]) for name in names]
            total += of_product(found.group(1), known, shapes[node.node_name])
    return total


def of_product(kind, inputs, output):
    """2 m n k of each matrix: (m k) (k n) (m n) is the square of m n k."""
    if kind.startswith("Conv2D"):
        filters, image = inputs[1], output
        if kind == "Conv2DBackpropInput":
            image = inputs[2]
        return 2 * np.prod(image, dtype=float) * np.prod(filters) / filters[-1]
    of_one = [np.prod(shape[-2:], dtype=float) for shape in inputs[:2] + [output]]
    return 2 * np.sqrt(np.prod(of_one)) * np.prod(output[:-2], dtype=float)


def count(name, method):
    workload = WORKLOADS[name]()
    with tf.Graph().as_default(), tf.Session() as session:
        x, y, feed = graph_of(tf, workload)
        if method == "gradient":
            fetch = tf.gradients(y, x)[0]
        else:
            fetch = batchhess.hessians(y, x, method=method)[0]
        return operations(session, fetch.op, feed)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    help_text = "of {}; mlp16, mlp32, mlp256, pinn and conv if none".format(
        ", ".join(WORKLOADS)
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=help_text)
    names = parser.parse_args().workloads or [
        "mlp16",
        "mlp32",
        "mlp256",
        "pinn",
        "conv",
    ]
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        parser.error("no workload {}".format(", ".join(unknown)))
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    print("TensorFlow {}, billions of operations of a run".format(VERSION))
    print("| workload | K | gradient | columns | symmetric | symmetric / columns |")
    print("|---|---|---|---|---|---|")
    for name in names:
        x = WORKLOADS[name]().x
        counts = [count(name, m) / 1e9 for m in ("gradient", "columns", "symmetric")]
        cells = ["{:.2f}".format(c) for c in counts]
        cells = [name, str(x.size // len(x))] + cells
        cells.append("{:.2f}".format(counts[2] / counts[1]))
        print("| {} |".format(" | ".join(cells)), flush=True)


if __name__ == "__main__":
    main()
