"""How good a prediction is, always beside what a simple method reaches."""
