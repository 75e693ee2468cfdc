"""Text calls: the same session as a telephone call, over a media stream of words instead of audio."""
