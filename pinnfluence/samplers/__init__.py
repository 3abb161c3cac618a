"""Samplers: where the next training points belong, by chance, by residuals or by influence."""
