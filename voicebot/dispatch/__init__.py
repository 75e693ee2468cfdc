"""Dials leads, and finalises the calls that have ended, inbound ones too."""
