"""Simulated calls: text conversations with templates in the terminal or from a script."""

from voicebot import logs

# Before other imports: pipecat logs a greeting when it is imported, which would be in the output.
logs.configure("WARNING")
