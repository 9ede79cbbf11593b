"""SSH as this house speaks it: pinned, tuned, with a deadline on every call."""
