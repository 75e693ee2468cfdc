"""Synchronising the template files of a directory with an account: check, pull, push, diff."""

from voicebot import logs

# Before other imports: pipecat logs a greeting when it is imported, which would be in the output.
logs.configure("WARNING")
