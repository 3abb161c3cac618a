"""Is it true? Influence scores against retraining."""
