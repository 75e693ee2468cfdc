"""The world without keys: what a voicebot server needs of vendors, a carrier and callers, on this machine.

- `world.py`: `Sandbox`, the vendors' servers in this process, for tests
- `process.py`: `SandboxProcess`, the same in a process of its own (`python -m voicebot.sandbox`)
- `vendors/`: OpenAI, Deepgram and ElevenLabs as their wire protocols are; faults, usage, latency, control
- `model/`: the language model behind OpenAI's; it decides from a request's messages and tools alone
- `listening/`: the ears behind Deepgram's: pocketsphinx with a grammar of what callers may say
- `speech.py`: the voices behind ElevenLabs': espeak-ng, another voice for every voice id
- `carrier/`: a simulated Twilio; `twilio_rest.py` is its REST API
- `caller.py`: a person with a script, who knows the agents by their voices
- `demo/`: `voicebot demo`

Nothing of the server imports this package; it is told the addresses by its environment.
"""
