"""Listening for real: pocketsphinx with a grammar of what callers may say, and endpointing by energy."""
