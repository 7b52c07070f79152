"""Programs that TensorFlow, or this library, once got wrong, and others like them."""

from programs import copies, feeds, fooled, ordinary, outputs, overridden, proof, second
from programs.registry import EVERY, REFUSED, RIGHT, SAFE, WISH, Program, Setup

FAMILIES = [second, copies, feeds, overridden, proof, outputs, fooled, ordinary]
# Those that this TensorFlow can build.
PROGRAMS = [program for program in EVERY if program.here]
__all__ = [
    "EVERY",
    "FAMILIES",
    "PROGRAMS",
    "REFUSED",
    "RIGHT",
    "SAFE",
    "WISH",
    "Program",
    "Setup",
]
