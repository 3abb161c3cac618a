"""Doors for trained models: checkpoints and DeepXDE."""
