"""The benchmark DFG 2D-1 (Schaefer and Turek, 1996): its channel, its fluid, its right values."""

from pinnfluence.problem.forces import Forces

LENGTH, HEIGHT = 2.2, 0.41  # m, of the channel
CENTER, RADIUS = (0.2, 0.2), 0.05  # m, of the cylinder
RHO, NU = 1.0, 1e-3  # kg/m3, m2/s
U_MAX, U_MEAN = 0.3, 0.2  # m/s, inflow at its middle and its mean; the Reynolds number is 20

DFG = Forces(drag=5.57953523384, lift=0.010618948146, dp=0.11752016697)
