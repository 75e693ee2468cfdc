"""The vendors' servers: OpenAI, Deepgram and ElevenLabs as their wire protocols are, on loopback."""
