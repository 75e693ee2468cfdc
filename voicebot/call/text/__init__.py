"""A call in text: the same session as a telephone call, on a line that carries words instead of audio."""
