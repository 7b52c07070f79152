"""Programs that TensorFlow, or this library, once got wrong, and others like them."""

from programs import copies, feeds, fooled, ordinary, outputs, overridden, proof, second
from programs.registry import PROGRAMS, REFUSED, RIGHT, SAFE, WISH, Setup

FAMILIES = [copies, feeds, fooled, ordinary, outputs, overridden, proof, second]
__all__ = ["FAMILIES", "PROGRAMS", "REFUSED", "RIGHT", "SAFE", "WISH", "Setup"]
