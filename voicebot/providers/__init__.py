"""Speech-to-text, text-to-speech and language-model providers: one file for each vendor and kind.

A provider declares the environment variables that it reads, how it makes a pipecat service, how it
synthesises a greeting (TTS), and which variables are missing. ``settings.py`` has the settings that an author
may write.

To add a provider, say Cartesia for TTS:

1. write ``tts_cartesia.py`` with a subclass of ``provider.TtsProvider``;
2. add its settings to ``settings.py``, and ``"cartesia": CartesiaTts`` to ``TTS`` in ``registry.py``;
3. add the extra ``cartesia`` to ``pipecat-ai[...]`` in ``pyproject.toml``.

The check, the JSON Schema of templates, the calls and the greetings read the registry.
"""
