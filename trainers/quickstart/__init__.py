"""The smallest real training: boosted trees on a bundled table. See README.md."""
