"""Trusted solutions, and how far a network is from them."""
