"""Evaluations of more data than memory holds, batch by batch, into arrays or files."""

from batchhess.streaming.comparing import is_close
from batchhess.streaming.evaluating import evaluate

__all__ = ["evaluate", "is_close"]
