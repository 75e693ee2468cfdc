"""What ``tests.fork_server`` imports before it is forked: commands, server and certificates."""

from __future__ import annotations

from voicebot.imports import load

for module in ("voicebot.cli", "voicebot.simulate.commands", "voicebot.sync.commands", "voicebot.server"):
    load(module)
load("handlers.http.client").public_tls()
load("elevenlabs.client")  # imported by tests
