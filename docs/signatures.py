"""Signatures as one would write them: an extension.

Defaults that are no Python when printed are replaced, and a type that says nothing is
left out: `Any` stands for what TensorFlow has no type for, which the words tell.
"""

from griffe import Extension

# The signature of a default like <UnconnectedGradients.NONE: 'none'> cannot be folded.
WRITTEN = {"<UnconnectedGradients.NONE": "tf.UnconnectedGradients.NONE"}


class ReadableSignatures(Extension):
    """Makes such signatures of those in the reference."""

    def on_function(self, *, func, **kwargs):
        for parameter in func.parameters:
            printed = str(parameter.default).partition(":")[0]
            parameter.default = WRITTEN.get(printed, parameter.default)
            if str(parameter.annotation) in ("Any", "typing.Any"):
                parameter.annotation = None
