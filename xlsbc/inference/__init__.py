"""Predicting with an emulator, lazily and tile by tile."""
