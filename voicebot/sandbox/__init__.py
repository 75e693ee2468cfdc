"""Stand-ins for the vendors, the carrier and callers on this machine; see docs/guides/sandbox.md.

- `environment.py`: `Sandbox`, the servers in this process
- `process.py`: `SandboxProcess`, the servers in a process of their own
- `vendors/`: the servers of OpenAI, Deepgram and ElevenLabs, with faults, latencies, usage and scripts
- `model/`: the rule-based model behind OpenAI's
- `speech/`: synthesis (espeak-ng), recognition (pocketsphinx) and scripted speech
- `carrier/`: a simulated Twilio with its REST API
- `caller/`: a scripted caller
- `audio/`: encodings, recordings, and measurements of recordings
- `demo/`: `voicebot demo`

No module of the server imports this package; the environment gives the server the addresses.
"""
