"""The data cube: its words, classes and grids, and how any dataset is read as one."""
