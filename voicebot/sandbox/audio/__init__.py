"""Audio of a telephone line: encodings, recordings, and measurements without recognition."""
