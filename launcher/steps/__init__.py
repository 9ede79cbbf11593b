"""The steps of a run: plain functions over one World. Each head says what it uses and what it produces."""
