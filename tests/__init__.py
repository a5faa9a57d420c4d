"""Unit tables, properties, simulations, and real processes."""
