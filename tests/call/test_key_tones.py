"""Keys that an agent presses: the tones, and their place after the speech."""

from __future__ import annotations

import numpy as np
import pytest

from tests.call.virtual_call import Plan, VirtualCall
from tests.call.virtual_time import VirtualLoop
from tests.dtmf import keys_in
from voicebot.call.audio.key_tones import GAP_MS, PAUSE_MS, TONE_MS, key_tones

ALL = "0123456789*#ABCD"


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000])
def test_a_receiver_hears_the_keys(rate: int) -> None:
    """Every key, also twice in a row, at every rate of a call."""
    keys = ALL + "11"
    sound = np.frombuffer(key_tones(keys, rate), "<i2")
    assert keys_in(sound, rate) == keys
    assert len(sound) == (TONE_MS + GAP_MS) * len(keys) * rate // 1000
    assert int(np.abs(sound.astype(int)).max()) < 20_000  # no receiver is overdriven


def test_a_pause_is_silence() -> None:
    """Half a second, for a system that is not ready at once."""
    assert key_tones("w", 8000) == bytes(PAUSE_MS * 16)


def test_what_is_no_key_is_an_error() -> None:
    """A letter beyond D has no tones."""
    with pytest.raises(ValueError, match="no key 'E'"):
        key_tones("E", 8000)


def test_keys_are_sent_behind_what_was_said(loop: VirtualLoop) -> None:
    """The transcript has them as what they are, whole; the model answers only what the system says."""
    call = VirtualCall(loop, desk={"functions": [{"type": "builtin", "name": "send_dtmf"}]})
    call.run(5)
    call.plan(Plan(text="One moment please.", calls=[("send_dtmf", {"digits": "12#"})]))
    call.say("Enter your number.")
    call.run(5)
    assert call.heard()[-2:] == ["One moment please.", "[keys sent: 12#]"]
    asked = len(call.script.asked)
    call.run(5)
    assert len(call.script.asked) == asked
