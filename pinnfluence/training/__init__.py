"""Training: its phases Adam, L-BFGS and Levenberg-Marquardt, and runs that survive anything."""
