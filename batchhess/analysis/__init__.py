"""What the graph alone tells about the derivatives of f with respect to x."""
