"""What holds inside the stacking trainer; see __main__.py."""
