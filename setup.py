"""Installs batchhess; everything that tools need is in pyproject.toml."""

import os
import re

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(*path):
    with open(os.path.join(HERE, *path), encoding="utf-8") as file:
        return file.read()


setup(
    name="batchhess",
    version=re.search(r'__version__ = "(.+)"', read("batchhess", "__init__.py")).group(
        1
    ),
    description="Per-observation Hessians for TensorFlow 1 graphs",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["batchhess", "batchhess.*"]),
    package_data={"batchhess": ["data/*.csv"]},
    python_requires=">=3.7",
    install_requires=["tensorflow>=1.15", "numpy"],
    entry_points={"console_scripts": ["batchhess = batchhess.cli:main"]},
    extras_require={
        "beam": ["apache-beam", "pyarrow"],
        "parquet": ["pyarrow"],
        "progress": ["tqdm"],
        "tests": ["pytest", "pytest-xdist"],
        "bench": ["jax", "torch", "matplotlib"],
        "notebooks": ["jupyter", "ipykernel", "nbclient", "matplotlib"],
    },
)
