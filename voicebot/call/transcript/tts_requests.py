"""The texts for the TTS of a call, from the request to the end of their audio, and those left unspoken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from db.utterances import Source
from voicebot.call.transcript.speech import Request, Unspoken


class TtsRequests:
    """What an agent is to say, until it has been spoken.

    A text that does not come from the model is *expected* from the moment at which it enters the pipeline. A
    request begins when the text is sent to the TTS service, in a TTS context. What an interruption drops is
    *unspoken* until it is spoken again or discarded.
    """

    def __init__(self) -> None:
        """Nothing is to be said."""
        self._expected: dict[str, Request] = {}
        self._requests: dict[str, Request] = {}
        self._unspoken: tuple[Unspoken, ...] = ()
        self._model_characters = 0
        self._ahead: tuple[str, str] | None = None
        """The latest text that was put into the context ahead of its audio, and what is heard of it."""

    @property
    def is_synthesising(self) -> bool:
        """Whether the TTS has not made all audio of the texts that it was sent."""
        return any(not request.is_synthesised for request in self._requests.values())

    @property
    def awaits_audio(self) -> bool:
        """Whether a text has no audio yet, or, if it is not the model's, not all of its audio."""
        return any(
            not request.is_synthesised and (request.source != "llm" or not request.has_audio)
            for request in self._requests.values()
        )

    @property
    def is_waiting_for_tts(self) -> bool:
        """Whether a text is not completely synthesised, or has not reached the TTS."""
        return self.is_synthesising or bool(self._expected)

    @property
    def has_partial_audio(self) -> bool:
        """Whether audio of an incomplete text may be in the pipeline, to be dropped when the TTS fails.

        A filler whose audio is complete is kept.
        """
        return any(
            request.has_audio and (request.remembered or not request.is_synthesised)
            for request in self._requests.values()
        )

    @property
    def model_characters(self) -> int:
        """How many characters of the model's text, without spaces, were sent to the TTS."""
        return self._model_characters

    @property
    def is_protected(self) -> bool:
        """Whether uninterruptible speech is playing or about to be."""
        return any(not request.interruptible for request in self._requests.values())

    @property
    def has_unspoken(self) -> bool:
        """Whether interrupted or lost speech is still to be spoken."""
        return bool(self._unspoken)

    def forget_unspoken(self) -> None:
        """Discard what is unspoken."""
        self._unspoken = ()

    def take_unspoken(self) -> Sequence[Unspoken]:
        """Return what is unspoken, in order, and forget it here."""
        unspoken, self._unspoken = self._unspoken, ()
        return unspoken

    def get(self, context_id: str) -> Request | None:
        """The text of a TTS context, unless it is over."""
        return self._requests.get(context_id)

    def of(self, contexts: Iterable[str]) -> Sequence[Request]:
        """The texts of some contexts that are not over, in order."""
        return [self._requests[context] for context in contexts if context in self._requests]

    def is_answer(self, context_id: str) -> bool:
        """Whether a TTS context answers the caller; fillers, apologies and announcements do not."""
        request = self._requests.get(context_id)
        return request is None or (request.remembered and not request.is_announcement)

    def as_heard(self, text: str) -> str:
        """What the caller hears of a text that was put into the context ahead of its audio."""
        return self._ahead[1] if self._ahead is not None and self._ahead[0] == text else text

    # --------------------------------------------------------------------- what is to be spoken

    def expect(
        self,
        text: str,
        source: Source,
        *,
        remembered: bool = True,
        interruptible: bool = True,
        is_announcement: bool = False,
    ) -> None:
        """``text``, which is not the model's, is about to be sent to the TTS; see :meth:`requested`.

        An announcement that is not ``remembered`` was put into the model's context before; see
        :meth:`as_heard`.
        """
        self._expected[_words(text)] = Request(text, source, remembered, interruptible, is_announcement)
        if is_announcement and not remembered:
            self._ahead = text, text

    async def on_request(self, context_id: str, text: str) -> None:
        """``text`` was sent to the TTS service; it is the model's unless it was expected."""
        expected = self._expected.pop(_words(text), None)
        if expected is None:
            self._model_characters += sum(not character.isspace() for character in text)
        self._request(context_id, expected or Request(text, "llm"))

    def requested(
        self,
        context_id: str,
        text: str,
        source: Source = "llm",
        *,
        remembered: bool = True,
        interruptible: bool = True,
    ) -> None:
        """``text`` is to be spoken in a TTS context.

        A text that is not ``remembered`` is complete when its audio is: no turn of the model ends with it.
        """
        self._request(context_id, Request(text, source, remembered, interruptible))

    def _request(self, context_id: str, request: Request) -> None:
        before = self._requests.get(context_id)
        if before is not None:
            request.text = f"{before.text} {request.text}"
            request.has_audio = before.has_audio
        self._requests[context_id] = request

    def audio_made(self, context_id: str) -> None:
        """The TTS has made audio in a context."""
        if context_id in self._requests:
            self._requests[context_id].has_audio = True

    def synthesised(self, context_id: str) -> None:
        """The TTS reports a context as complete; a context with words and without audio is not."""
        request = self._requests.get(context_id)
        if request is None:
            return
        if not any(map(str.isalnum, request.text)):
            del self._requests[context_id]
        request.is_synthesised = request.has_audio

    # -------------------------------------------------------------------- what becomes of it

    def spoken(self, contexts: Iterable[str]) -> None:
        """The audio of these contexts was sent, or an interruption has ended them."""
        for context_id in contexts:
            self._requests.pop(context_id, None)

    def unheard(self, request: Request | None, *, heard: str, rest: str) -> None:
        """Of a text, ``heard`` was heard and ``rest`` is still to be spoken."""
        if request is None:
            return
        self._note_ahead(request, heard)
        if rest:
            self._unspoken = (*self._unspoken, request.unspoken(rest))

    def interruption_passes(self, *, lost: bool = False) -> None:
        """An interruption has left the TTS, which has dropped its requests.

        The transcript learns of the interruption later; requests in between are not dropped. ``lost``:
        uninterruptible requests are dropped too.
        """
        for request in (*self._requests.values(), *self._expected.values()):
            request.is_dropped = lost or request.interruptible
        if not lost:
            self._model_characters = 0

    def nothing_made(self) -> None:
        """The TTS has failed before it made audio of its pending requests; complete ones are still played."""
        for request in (*self._requests.values(), *self._expected.values()):
            request.is_dropped = not request.is_synthesised
        self.keep_dropped()

    def keep_dropped(self) -> None:
        """Add what an interruption has dropped to what is unspoken."""
        for waiting in (self._requests, self._expected):
            for key, request in list(waiting.items()):
                if request.is_dropped:
                    self.unheard(request, heard="", rest=request.text)
                    del waiting[key]

    def _note_ahead(self, request: Request, heard: str) -> None:
        if request.is_announcement and self._ahead is not None:
            self._ahead = self._ahead[0], heard


def _words(text: str) -> str:
    """A text in the form in which texts are compared: services strip them."""
    return " ".join(text.split())
