"""Servers with the wire protocols of OpenAI, Deepgram and ElevenLabs.

OpenAI: chat completions. Deepgram: transcription and Aura. ElevenLabs: text to speech and Scribe.
"""
