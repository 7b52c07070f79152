"""Times batchhess beside its peers, each in a process of its own, in turn.

    python benchmarks/compare.py [--workloads mlp32 pinn] [--peers jax_hessian] \
        [--jax-python PATH] [--torch-python PATH] [--json FILE] [--plot FILE]

Every round asks each process for one run, so that all see the same machine, and begins
with another, so that none always follows the same. The figures are medians of the
rounds. A peer that is not installed is shown as absent, and one that fails, takes too
long or answers something else than the first as such. Peaks are of resident memory,
beyond what the process held before its first run; the result is part of them.

    python benchmarks/compare.py --table docs/performance.md --plot FILE

draws the times that a page has already.
"""

import argparse
import collections
import json
import os
import re
import resource
import select
import statistics
import subprocess
import sys
import time

import numpy as np
from peers import HESSIANS, OURS, prepare
from workloads import WORDS, WORKLOADS, workload_of

TIMEOUT = 40  # Seconds, for the first answer and for each run.


def worker(name, operator, peer):
    """Answers a line of JSON when ready, and one for each line that it is sent."""
    workload = workload_of(name)
    # What needs more memory than there is fails, rather than take the machine.
    most = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        built, run, answer = prepare(workload, operator, peer)
        before = memory("VmRSS")
        start = time.time()
        run()
        first = time.time() - start
        print(json.dumps({"built": built, "first": first}), flush=True)
    except ImportError as error:
        print(json.dumps({"absent": str(error)[:80]}), flush=True)
        return
    except Exception as error:
        reason = re.sub(r"\s+", " ", "{}: {}".format(type(error).__name__, error))
        print(json.dumps({"failed": reason[:160]}), flush=True)
        return
    for line in sys.stdin:
        if line == "answer\n":
            print(json.dumps({"total": total(answer())}), flush=True)
            continue
        start = time.time()
        run()
        taken = time.time() - start
        peak = memory("VmHWM") - before
        print(json.dumps({"time": taken, "peak": peak}), flush=True)


def total(answer):
    """One number for an array, to which no single magnitude adds much."""
    return float(np.arcsinh(np.abs(np.asarray(answer, "float64"))).sum())


def memory(key):
    """Bytes of this process, from the kernel."""
    with open("/proc/self/status") as status:
        return next(
            1024 * int(line.split()[1]) for line in status if line.startswith(key)
        )


class Peer:
    """The process of one peer on one workload."""

    def __init__(self, python, name, peer, operator="hessians"):
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3")
        self.process = subprocess.Popen(
            [python, os.path.abspath(__file__), "--worker", name, operator, peer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            universal_newlines=True,
        )
        self.times, self.peak, self.total = [], None, None
        self.state = self.answer() or {"failed": "no first answer in time, or killed"}

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], TIMEOUT)
        line = self.process.stdout.readline() if ready else ""
        return json.loads(line) if line.startswith("{") else None

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        if answer is None:
            self.state = {"failed": "no answer in time, or killed"}
        return answer

    def run(self):
        answer = self.ask("run")
        if answer is not None:
            self.times.append(answer["time"])
            self.peak = answer["peak"]

    def check(self, others):
        """Counts as failed if its answer is another than that of the first of them."""
        found = self.works() and self.ask("answer")
        if not found:
            return
        self.total = found["total"]
        first = next((p.total for p in others if p.total is not None), self.total)
        if not abs(self.total - first) <= 1e-3 * first:
            self.state = {"failed": "its answer is another: {}".format(self.total)}

    def works(self):
        return "first" in self.state

    def close(self):
        self.process.kill()
        self.process.wait()

    def report(self):
        report = dict(self.state, peak=self.peak)
        if self.works() and self.times:
            report["median"] = statistics.median(self.times)
        return report


def machine():
    """Rates of this machine: float32 products, and copies beyond any cache."""
    a = np.random.RandomState(0).randn(2048, 2048).astype("float32")
    big = np.ones(1 << 26, "float32")
    there = np.empty_like(big)

    def best(function):
        taken = []
        for _ in range(5):
            start = time.time()
            function()
            taken.append(time.time() - start)
        return min(taken)

    return {
        "flops_per_second": 2 * 2048**3 / best(lambda: a @ a),
        "bytes_per_second": big.nbytes / best(lambda: np.copyto(there, big)),
    }


def compare(name, peers, pythons, rounds, operator="hessians"):
    processes = {}
    try:
        for peer in peers:
            processes[peer] = Peer(
                pythons.get(peer.split("_")[0], sys.executable), name, peer, operator
            )
        for number in range(rounds + 1):
            order = list(processes.values())
            first = number % len(order)
            for peer in order[first:] + order[:first]:
                # What takes seconds for one run is run fewer times.
                slow = peer.works() and peer.state["first"] > 5
                if peer.works() and not (slow and number > 2):
                    peer.run()
        for peer in processes.values():
            del peer.times[:1]  # A second run to warm up.
            peer.check(processes.values())
        return {peer: process.report() for peer, process in processes.items()}
    finally:
        for process in processes.values():
            process.close()


def limit(name, rates):
    """Seconds that the products and writing the result take at least."""
    workload = workload_of(name)
    count = workload.x.shape[workload.batch_axis]
    size = workload.x.size // count
    written = 4 * count * size * size / rates["bytes_per_second"]
    return workload.flops / rates["flops_per_second"] + written


def cell(report):
    if report is None or "absent" in report:
        return "absent"
    if "median" not in report:
        return "failed"
    return "{:.2f}".format(1e3 * report["median"])


def table(results, peers):
    """Markdown: milliseconds of each, and how many times faster ours is."""
    lines = [
        "| workload | " + " | ".join(peers) + " | best peer / auto | auto / limit |"
    ]
    lines.append("|---" * (len(peers) + 3) + "|")
    ratios = []
    for name, result in results.items():
        reports = result["peers"]
        others = [
            r["median"] for p, r in reports.items() if p not in OURS and "median" in r
        ]
        ours = reports.get("auto", {}).get("median")
        faster, near = "", ""
        if ours and others:
            ratios.append(min(others) / ours)
            faster = "{:.2f}".format(ratios[-1])
        if ours and result["limit"]:
            near = "{:.1f}".format(ours / result["limit"])
        cells = [cell(reports.get(p)) for p in peers] + [faster, near]
        lines.append("| {} | {} |".format(name, " | ".join(cells)))
    if ratios:
        mean = float(np.exp(np.mean(np.log(ratios))))
        lines.append("\nGeometric mean of best peer / auto: {:.2f}".format(mean))
    return "\n".join(lines)


def starts(results):
    """Markdown: milliseconds to build and until the first answer, and the choice."""
    ours = [p for p in OURS if any(p in r["peers"] for r in results.values())]
    lines = ["| workload | " + " | ".join(ours) + " | auto / the best method |"]
    lines.append("|---" * (len(ours) + 2) + "|")
    for name, result in results.items():
        reports = {p: result["peers"].get(p, {}) for p in ours}
        cells = [
            "{:.0f} + {:.0f}".format(1e3 * r["built"], 1e3 * r["first"])
            if "first" in r
            else ""
            for r in reports.values()
        ]
        times = {p: r["median"] for p, r in reports.items() if "median" in r}
        auto = times.pop("auto", None)
        fixed = [times[p] for p in ("symmetric", "columns") if p in times]
        choice = "{:.2f}".format(auto / min(fixed)) if auto and fixed else ""
        lines.append("| {} | {} |".format(name, " | ".join(cells + [choice])))
    return "\n".join(lines)


def peaks(results, peers):
    lines = ["| workload | result | " + " | ".join(peers) + " |"]
    lines.append("|---" * (len(peers) + 2) + "|")
    for name, result in results.items():
        reports = [result["peers"].get(p) or {} for p in peers]
        cells = [
            "{:.0f}".format(r["peak"] / 1e6) if r.get("peak") else "" for r in reports
        ]
        lines.append(
            "| {} | {:.1f} | {} |".format(
                name, result["result"] / 1e6, " | ".join(cells)
            )
        )
    return "\n".join(lines)


# A row of the figure has a dot for each: the fastest of some peers. In a recorded table
# it has the column whose title begins with `head`.
Tool = collections.namedtuple("Tool", "label peers head colour marker")
TOOLS = [
    Tool("batchhess", ["auto"], "auto", "#1f4e9c", "o"),
    Tool("JAX", ["jax_hessian", "jax_jacrev_grad"], "JAX", "#d95f02", "s"),
    Tool("PyTorch", ["torch_hessian"], "PyTorch", "#7a3e9d", "^"),
    Tool("batch_jacobian", ["tf_pfor", "tf_while"], "batch_jacobian", "#1b8a5a", "D"),
    Tool("tf.hessians", ["tf_hessians_sliced"], "tf.hessians", "#666666", "X"),
]


def fastest(results):
    """By workload and label, milliseconds or the words for none."""
    found = {}
    for name, result in results.items():
        found[name] = {}
        for tool in TOOLS:
            reports = [result["peers"].get(peer, {}) for peer in tool.peers]
            times = [1e3 * r["median"] for r in reports if "median" in r]
            if times or any("failed" in report for report in reports):
                none = "fails, or over {} s".format(TIMEOUT)
                found[name][tool.label] = min(times) if times else none
    return found


def recorded(path):
    """The same, from the first table of a page."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])
        elif rows:
            break
    found = {}
    for row in rows[2:]:
        cells = found[row[0].partition(":")[0]] = {}
        for tool in TOOLS:
            at = next(i for i, t in enumerate(rows[0]) if t.startswith(tool.head))
            number = row[at].replace(",", "")
            is_time = re.match(r"\d+(\.\d+)?$", number)
            cells[tool.label] = float(number) if is_time else row[at]
    return found


def plot(found, path):
    """Draws what `fastest` or `recorded` has found: a row for each workload."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(found)
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(names) + 1.6))
    for tool in TOOLS:
        at = [
            (found[name][tool.label], row)
            for row, name in enumerate(names)
            if isinstance(found[name].get(tool.label), float)
        ]
        times, rows = zip(*at) if at else ((), ())
        axes.scatter(
            times,
            rows,
            s=80 if tool is TOOLS[0] else 50,
            color=tool.colour,
            marker=tool.marker,
            edgecolors="white",
            linewidths=0.7,
            label=tool.label,
            zorder=4 if tool is TOOLS[0] else 3,
        )
    for row, name in enumerate(names):
        times = [t for t in found[name].values() if isinstance(t, float)] or [1.0]
        axes.plot([min(times), max(times)], [row, row], color="0.8", zorder=2)
        missing = [
            "{}: {}".format(label, words)
            for label, words in found[name].items()
            if isinstance(words, str)
        ]
        axes.annotate(
            "\n".join(missing),
            (max(times), row),
            (9, 0),
            va="center",
            fontsize=8,
            textcoords="offset points",
            color="0.4",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("time of a run, ms (log scale; to the left is faster)")
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels([WORDS[name] for name in names])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(ncol=len(TOOLS), loc="upper center", frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workloads", nargs="+", default=list(WORKLOADS), help="NAME or NAME:N"
    )
    parser.add_argument("--peers", nargs="+", default=OURS + HESSIANS, help="which")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each")
    parser.add_argument("--jax-python", default=sys.executable, help="of JAX")
    parser.add_argument("--torch-python", default=sys.executable, help="of PyTorch")
    parser.add_argument("--json", help="a file for the numbers")
    parser.add_argument("--plot", help="a file for the figure")
    parser.add_argument("--table", help="a page: draw its first table, time nothing")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return worker(*given.worker)
    if given.table:
        return plot(recorded(given.table), given.plot)
    pythons = {"jax": given.jax_python, "torch": given.torch_python}
    rates, results = machine(), {}
    for name in given.workloads:
        workload = workload_of(name)
        count = workload.x.shape[workload.batch_axis]
        results[name] = {
            "peers": compare(name, given.peers, pythons, given.rounds),
            "limit": limit(name, rates),
            "result": 4 * workload.x.size**2 // count,
        }
        print(name, {p: cell(r) for p, r in results[name]["peers"].items()}, flush=True)
    print("\nMedian times, ms:\n\n" + table(results, given.peers))
    print("\nTo build + first run, ms:\n\n" + starts(results))
    print("\nPeak memory, the result included, MB:\n\n" + peaks(results, given.peers))
    for name, result in results.items():
        for peer, report in result["peers"].items():
            if "failed" in report:
                print("{} {}: {}".format(name, peer, report["failed"]))
    if given.json:
        with open(given.json, "w") as file:
            json.dump({"machine": rates, "workloads": results}, file, indent=1)
    if given.plot:
        plot(fastest(results), given.plot)
    return None


if __name__ == "__main__":
    main()
