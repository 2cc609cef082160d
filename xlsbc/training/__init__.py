"""Fitting an emulator to a cube."""
