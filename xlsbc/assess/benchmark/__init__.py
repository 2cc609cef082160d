"""The benchmark: emulators, adaptations and baselines on the same data, as one table."""
