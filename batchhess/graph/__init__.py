"""Facts of a graph, and copies of its parts: nothing here knows an op by its type."""
