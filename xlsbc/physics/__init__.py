"""What must hold between land use, land cover and leaves, and how far it does."""
