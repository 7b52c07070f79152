"""Draws docs/images/blocks.png from what TensorFlow and batchhess answer.

Run: python docs/figures.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import batchhess
from batchhess.compat import tf

IMAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")
N, K = 6, 4


def compute():
    """The Hessians of sum over n of sin(x_n . x_n), whole and by observation."""
    value = np.random.RandomState(1).randn(N, K)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, (None, K))
        f = tf.reduce_sum(tf.sin(tf.reduce_sum(x * x, axis=1)))
        fetches = [tf.hessians(f, x)[0], batchhess.hessians(f, x)[0]]
        return session.run(fetches, {x: value})


def draw(whole, blocks, path):
    """One square that is mostly zeros, beside six full ones."""
    limit = np.ceil(np.abs(whole).max() / 2)  # Beyond it, all is equally dark.
    shades = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    figure = plt.figure(figsize=(7.2, 3))
    widths = [2.35, 1, 1, 1, 0.12]
    grid = figure.add_gridspec(2, 5, width_ratios=widths, wspace=0.14, hspace=0.3)
    figure.subplots_adjust(left=0.07, right=0.91, bottom=0.17, top=0.88)
    axis = figure.add_subplot(grid[:, 0])
    image = axis.imshow(whole.reshape(N * K, N * K), **shades)
    axis.set_title("tf.hessians: (6, 4, 6, 4)", fontsize=10.5, pad=6)
    for edge in range(K, N * K, K):
        axis.axhline(edge - 0.5, color="0.8", linewidth=0.7)
        axis.axvline(edge - 0.5, color="0.8", linewidth=0.7)
    middles = np.arange(N) * K + (K - 1) / 2
    axis.set_xticks(middles)
    axis.set_yticks(middles)
    axis.set_xticklabels(range(N))
    axis.set_yticklabels(range(N))
    axis.set_xlabel("observation")
    axis.set_ylabel("observation")
    for n in range(N):
        axis = figure.add_subplot(grid[n // 3, 1 + n % 3])
        axis.imshow(blocks[n], **shades)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel("observation {}".format(n), fontsize=9, labelpad=2)
        if n == 1:
            axis.set_title("batchhess.hessians: (6, 4, 4)", fontsize=10.5, pad=6)
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[:, 4]), extend="both")
    bar.set_label("second derivative, clipped at {:.0f}".format(limit))
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    tf.disable_eager_execution()
    draw(*compute(), path=os.path.join(IMAGES, "blocks.png"))
