"""Defaults that are no Python when printed, as one would write them: an extension."""

from griffe import Extension

# The signature of a default like <UnconnectedGradients.NONE: 'none'> cannot be folded.
WRITTEN = {"<UnconnectedGradients.NONE": "tf.UnconnectedGradients.NONE"}


class ReadableDefaults(Extension):
    """Replaces such defaults in the signatures of the reference."""

    def on_function(self, *, func, **kwargs):
        for parameter in func.parameters:
            printed = str(parameter.default).partition(":")[0]
            parameter.default = WRITTEN.get(printed, parameter.default)
