"""What leaves the house: predictions in catalogs, made before or made when they are read."""
