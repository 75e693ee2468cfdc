"""Servers with the wire protocols of OpenAI, Deepgram and ElevenLabs."""
