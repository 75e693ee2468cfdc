"""A small, obedient language model: it knows English word forms and its request, and no agent or phrase.

Everything it does follows from `messages` and `tools`: it says what it is told to say, asks what it is told
to ask, calls the tool that is most like the caller's words, tells its result, and makes small talk otherwise.
The same request always gets the same answer.
"""

from voicebot.sandbox.model.answer import Call, Reply, reply

__all__ = ["Call", "Reply", "reply"]
