"""Measurements of a running server, from the carrier's side; each prints JSON."""
