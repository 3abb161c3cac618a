"""The weights with which the loss terms entered training."""

from pinnfluence.loss.collocation import Collocation


def training_weights(collocation: Collocation) -> dict[str, float]:
    """Weights ``c_k / |S_k|`` of the loss terms in training, by name."""
    given = collocation.pinn.loss_weights
    return {
        name: given.get(name, 1.0) / max(1, len(rows))
        for name, rows in collocation.term_rows().items()
    }
