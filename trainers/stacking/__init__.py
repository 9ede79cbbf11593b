"""Gradient-boosted stacking for one classifier and three regressors. See README.md."""

import os

# Before any learner is loaded: threads that have nothing to do sleep instead of spinning. On two shared
# cores a fit of 100 rounds costs 0.3 CPU seconds so, and 5 without it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
