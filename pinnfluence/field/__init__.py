"""Fields and networks: derivatives by name."""
