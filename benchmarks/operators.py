"""Times the operators beside what users write by hand, and beside JAX.

    python benchmarks/operators.py [--operators laplacians] [--workloads net48 wave] \
        [--rounds 7] [--jax-python PATH]

By hand is tf.gradients, chained. Each is a process of its own, in turn; medians of the
rounds, in ms; answers are held against each other. `compare.py` has whole Hessians,
`jacobians.py` Jacobians, `sparsity.py` Hessians of known zeros.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from compare import cell, compare
from peers import LABELS, PEERS

NETWORKS = ["net12", "net48", "net96"]
WORKLOADS = {
    "laplacians": NETWORKS + ["wave", "pinn"],
    "hessian_diagonals": ["net12", "net48", "conv"],
    "hessian_vector_products": ["pinn", "mlp32", "conv", "attention"],
    "several_products": ["pinn", "mlp32", "attention"],
    "gauss_newton_products": ["classifier", "conv"],
    "derivatives": ["pinn", "mlp32", "attention"],
}


def faster(reports, peers):
    """How many times as long as ours the fastest of `peers` takes; "" if none ran."""
    times = [reports[p]["median"] for p in peers if "median" in reports.get(p, {})]
    ours = reports["auto"].get("median")
    return min(times) / ours if times and ours else ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operators", nargs="+", default=list(WORKLOADS), help="which")
    parser.add_argument("--workloads", nargs="+", help="all of the operator if none")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    parser.add_argument("--jax-python", default=sys.executable, help="of JAX")
    given = parser.parse_args()
    pythons = {"jax": given.jax_python}
    for operator in given.operators:
        peers = ["auto"] + PEERS[operator]
        names = [LABELS[peer] for peer in peers] + ["fastest other / batchhess"]
        print("\n| {} | {} |".format(operator, " | ".join(names)))
        print("|---" * (len(names) + 1) + "|")
        ratios = []
        for name in given.workloads or WORKLOADS[operator]:
            found = compare(name, peers, pythons, given.rounds, operator)
            ratio = faster(found, PEERS[operator])
            ratios += [ratio] if ratio else []
            cells = [cell(found[p]) for p in peers] + ["{:.2f}".format(ratio or 0)]
            print("| {} | {} |".format(name, " | ".join(cells)), flush=True)
            for peer, report in found.items():
                if "failed" in report:
                    print("{}: {}".format(peer, report["failed"]), file=sys.stderr)
        if ratios:
            mean = np.exp(np.mean(np.log(ratios)))
            print("\nGeometric mean: {:.2f}".format(mean))


if __name__ == "__main__":
    main()
