"""Installs batchhess; everything that tools need is in pyproject.toml."""

import os
import re

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))

# The address of the public repository, once there is one: "https://.../batchhess". The
# README's links are relative to it: without it an index page shows their texts alone.
REPOSITORY = None


def read(*path):
    """The text of a file beside this one."""
    with open(os.path.join(HERE, *path), encoding="utf-8") as file:
        return file.read()


def describe(readme, repository):
    """The README as an index can show it: no link and no image that leads nowhere.

    Args:
      readme: str, Markdown whose relative links are paths in the repository.
      repository: str, the address of the repository, or None.

    Returns:
      str: with absolute links, or with their texts in place of relative ones.
    """
    image = r'<img src="(?!https?:)([^"]+)"([^>]*)>\n*'
    link = r"\[([^\]]*)\]\((?!https?:)([^)]+)\)"
    if repository is None:
        return re.sub(link, r"\1", re.sub(image, "", readme))
    whole = r'<img src="{}/raw/main/\1"\2>\n\n'.format(repository)
    readme = re.sub(image, whole, readme)
    return re.sub(link, r"[\1](" + repository + r"/blob/main/\2)", readme)


if __name__ == "__main__":
    setup(
        name="batchhess",
        version=re.search(
            r'__version__ = "(.+)"', read("batchhess", "__init__.py")
        ).group(1),
        description="Per-observation Hessians for TensorFlow 1 graphs",
        long_description=describe(read("README.md"), REPOSITORY),
        long_description_content_type="text/markdown",
        author="The batchhess authors",
        license="Apache-2.0",
        keywords="hessian second-derivative laplacian tensorflow autodiff pinn glm",
        classifiers=[
            "Development Status :: 4 - Beta",
            "Intended Audience :: Science/Research",
            "Operating System :: POSIX :: Linux",
            "Programming Language :: Python :: 3",
            *map("Programming Language :: Python :: 3.{}".format, range(7, 14)),
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Topic :: Scientific/Engineering :: Mathematics",
            "Typing :: Typed",
        ],
        **({"url": REPOSITORY} if REPOSITORY else {}),
        packages=find_packages(include=["batchhess", "batchhess.*"]),
        package_data={"batchhess": ["data/*.csv", "py.typed", "*.pyi"]},
        zip_safe=False,
        python_requires=">=3.7",
        install_requires=["tensorflow>=1.15", "numpy"],
        entry_points={"console_scripts": ["batchhess = batchhess.cli:main"]},
        extras_require={
            "beam": ["apache-beam", "pyarrow"],
            "bench": ["jax", "torch", "matplotlib", "folx; python_version>='3.10'"],
            "docs": [
                "apache-beam",
                "matplotlib",
                "mkdocs-material",
                "mkdocstrings[python]",
                "ruff",
            ],
            "notebooks": ["jupyter", "ipykernel", "nbclient", "matplotlib", "tqdm"],
            "parquet": ["pyarrow"],
            "progress": ["tqdm"],
            "tests": ["pytest", "pytest-xdist", "mypy"],
        },
    )
