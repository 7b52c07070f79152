"""Time and memory against the observations N and the coordinates K.

    python benchmarks/scaling.py [--peers auto jax_hessian tf_pfor tf_hessians] \
        [--jax-python PATH] [--json FILE] [--plot FILE]

Against N: cross entropies of 10 logits. Against K: a network K-256-256-1, N = 64. Each
point is a process of its own, the median of its runs, and its peak of resident memory
beyond what it held before. What fails or takes too long has no point.
"""

import argparse
import json
import sys

from compare import Peer
from peers import LABELS

POINTS = {
    "observations": [100, 1000, 10000, 100000, 1000000],
    "coordinates": [4, 16, 64, 256, 1024],
}
PEERS = ["auto", "jax_hessian", "tf_pfor", "tf_hessians"]


def measure(pythons, name, peer, rounds):
    process = Peer(pythons.get(peer.split("_")[0], sys.executable), name, peer)
    try:
        for _ in range(rounds + 1):
            if process.works():
                process.run()
        del process.times[:1]
        return process.report()
    finally:
        process.close()


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex="col")
    for column, (axis, by_peer) in zip(axes.T, results.items()):
        for peer, reports in by_peer.items():
            label = LABELS[peer]
            found = [(int(n), r) for n, r in reports.items() if r.get("median")]
            numbers = [n for n, _ in found]
            axis_of = {"marker": "o", "label": label}
            column[0].loglog(numbers, [1e3 * r["median"] for _, r in found], **axis_of)
            peaks = [max(r["peak"] / 1e6, 0.1) for _, r in found]
            column[1].loglog(numbers, peaks, **axis_of)
        column[1].set_xlabel(axis)
        for panel in column:
            panel.grid(alpha=0.3)
    axes[0][0].set_title("cross entropy of 10 logits")
    axes[0][1].set_title("network K-256-256-1, N = 64")
    axes[0][0].set_ylabel("time of a run (ms)")
    axes[1][0].set_ylabel("peak of memory (MB)")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", default=PEERS, help="which")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each")
    parser.add_argument("--jax-python", default=sys.executable, help="of JAX")
    parser.add_argument("--json", help="a file for the numbers")
    parser.add_argument("--plot", help="a file for the figure")
    given = parser.parse_args()
    pythons = {"jax": given.jax_python}
    results = {}
    for axis, numbers in POINTS.items():
        results[axis] = {}
        print("\n| {} | {} |".format(axis, " | ".join(given.peers)))
        print("|---" * (len(given.peers) + 1) + "|")
        for number in numbers:
            cells = []
            for peer in given.peers:
                name = "{}:{}".format(axis, number)
                report = measure(pythons, name, peer, given.rounds)
                results[axis].setdefault(peer, {})[number] = report
                told = "{:.4g} ms, {:.0f} MB"
                cells.append(
                    told.format(1e3 * report["median"], report["peak"] / 1e6)
                    if report.get("median")
                    else "failed"
                )
            print("| {:,} | {} |".format(number, " | ".join(cells)), flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
