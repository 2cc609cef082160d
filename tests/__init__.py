"""A package, since pangeo-forge-recipes installs one of this name, which workers would find."""
