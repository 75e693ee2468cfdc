"""What the fork server of ``tests.forked`` has imported before it is forked: the commands and the server."""

from __future__ import annotations

from voicebot.imports import load

for module in ("voicebot.cli", "voicebot.simulate.commands", "voicebot.sync.commands", "voicebot.server"):
    load(module)
