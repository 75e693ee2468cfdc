"""Trying templates without a phone: a conversation in the terminal, and scripted ones with a report."""

from voicebot import logs

# Before anything else is imported: pipecat greets on import, and a conversation is not the place for it.
logs.configure("WARNING")
