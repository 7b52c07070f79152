"""Models from files, of any TensorFlow."""

from batchhess.models.loading import Model, load

__all__ = ["Model", "load"]
