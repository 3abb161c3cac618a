"""The only room that knows DeepXDE: builds its models for our problems, reads a user's own."""
