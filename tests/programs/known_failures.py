"""Programs of the second round that fail today, by the TensorFlow they fail on."""

KNOWN_FAILURES = {"1": set(), "2": set()}

# These fail by chance: in most runs, but not in each.
FLAKY = set()
