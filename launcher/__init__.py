"""launcher: rent a GPU machine, train, bring verified artifacts home, leave nothing running."""

__version__ = "0.1.0"
