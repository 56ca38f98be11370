"""Harmonic analysis on the sphere and on SO(3): Legendre tables and Wigner matrices, built in float64."""
