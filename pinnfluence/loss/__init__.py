"""The loss of a network: points, equations and weights, and its derivatives by the parameters."""
