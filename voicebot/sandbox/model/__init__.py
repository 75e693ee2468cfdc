"""The language model of the stand-in for OpenAI: a few rules, described in docs/guides/sandbox.md.

An answer follows from the messages and functions of its request alone; equal requests get equal answers.
"""

from voicebot.sandbox.model.answer import Call, Reply, reply

__all__ = ["Call", "Reply", "reply"]
