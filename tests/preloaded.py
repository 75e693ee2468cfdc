"""What the fork server of ``tests.forked`` has before it is forked: commands, server and certificates."""

from __future__ import annotations

import gc

from voicebot.imports import load

gc.disable()  # what imports make lives as long as the process
for module in ("voicebot.cli", "voicebot.simulate.commands", "voicebot.sync.commands", "voicebot.server"):
    load(module)
load("handlers.http.client").public_tls()
load("elevenlabs.client")  # imported by tests
gc.freeze()
gc.enable()
