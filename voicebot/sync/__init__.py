"""Templates in a folder (and so in git): checked, pulled from an account, pushed to it, compared with it."""

from voicebot import logs

# Before anything else is imported: pipecat greets on import, and a report is not the place for it.
logs.configure("WARNING")
