"""Text calls: the session of a telephone call, with a media stream that carries text instead of audio."""
