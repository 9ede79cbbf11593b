"""The laws of the house, checked on the syntax tree: nothing is imported, nothing is run."""
