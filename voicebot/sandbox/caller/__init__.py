"""A scripted caller, who distinguishes agents only by their voices.

A script is a sequence of steps. Every step that waits has a time limit; when it is exceeded, the caller hangs
up and `outcome` names the step:

    script = (
        Listen(),                                  # the greeting, until it has been quiet for 700 ms
        Say(text="I have a question about my bill."),
        ExpectAnotherVoice(),                      # billing answers, and finishes speaking
        Say(text="What do I owe?"),
        Interrupt(text="Stop, that is enough.", after_ms=500),
        HangUp(),
    )
    caller = Caller(script=script, voice_id="caller-1")
    call = carrier.call(from_="+15550100", to="+15550199", person=caller)
    await call.ended()
    caller.outcome  # what each step heard, or why the caller gave up
"""

from voicebot.sandbox.caller.caller import Caller
from voicebot.sandbox.caller.steps import (
    Dtmf,
    ExpectAnotherVoice,
    ExpectSameVoice,
    HangUp,
    Interrupt,
    Listen,
    Outcome,
    Say,
    Step,
    StepReport,
    Wait,
    WaitFor,
    WaitForHangUp,
)

__all__ = [
    "Caller",
    "Dtmf",
    "ExpectAnotherVoice",
    "ExpectSameVoice",
    "HangUp",
    "Interrupt",
    "Listen",
    "Outcome",
    "Say",
    "Step",
    "StepReport",
    "Wait",
    "WaitFor",
    "WaitForHangUp",
]
