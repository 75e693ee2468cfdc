"""TwiML, read strictly: what Twilio would refuse or silently drop is an error here.

Sources: twilio.com/docs/voice/twiml (verbs, attributes, case), /twiml/stream (`url` takes no query string; a
Parameter's name and value together stay under 500 characters), and the page of each verb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from voicebot.sandbox.carrier.model import TwimlError

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MAX_PARAMETER = 500
_MAX_DOCUMENT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """`<Connect><Stream>`: talk to a media websocket until it closes."""

    url: str
    name: str | None
    status_callback: str | None
    status_callback_method: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Go on with the document at another address; relative to the present one."""

    url: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Refuse the call before it is answered."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait in silence."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Speak with the carrier's own voice."""

    text: str
    loop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Play a sound file."""

    url: str
    loop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Say something and wait for a key; with one, go on at the action's address."""

    say: tuple[Say | Play | Pause, ...]
    timeout_s: float
    action: str | None
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conference:
    """A conference that a call is led into."""

    name: str
    label: str | None
    end_on_exit: bool
    status_callback: str | None
    status_events: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Connect the caller to another telephone, or lead the call into a conference."""

    number: str
    timeout_s: float
    action: str | None
    method: str
    conference: Conference | None = None
    hangup_on_star: bool = False


Verb = Stream | Redirect | Reject | Hangup | Pause | Say | Play | Gather | Dial


def parse(document: str) -> tuple[Verb, ...]:
    """Read a TwiML document into its verbs, in order.

    Raises:
        TwimlError: not XML, not a `<Response>`, or anything in it that Twilio does not know.
    """
    if len(document.encode()) > _MAX_DOCUMENT:
        raise TwimlError("the document is over 64 KiB")
    try:
        root = ElementTree.fromstring(document.strip())  # noqa: S314 - the answer of the server under test
    except ElementTree.ParseError as error:
        raise TwimlError(f"not XML: {error}") from error
    if root.tag != "Response":
        raise TwimlError(f"the root is <{root.tag}>, not <Response>")
    _no_stray_text(root)
    return tuple(_verb(element) for element in root)


def _verb(element: Element) -> Verb:
    reader = _READERS.get(element.tag)
    if reader is None:
        raise TwimlError(f"no such verb: <{element.tag}> (names are case-sensitive)")
    return reader(element)


def _connect(element: Element) -> Stream:
    _only(element, "action", "method")
    _no_stray_text(element)
    if len(element) != 1 or element[0].tag != "Stream":
        raise TwimlError("<Connect> wants exactly one <Stream>")
    stream = element[0]
    _only(stream, "url", "name", "track", "statusCallback", "statusCallbackMethod")
    _no_stray_text(stream)
    if stream.get("track", "inbound_track") != "inbound_track":
        raise TwimlError("a bidirectional <Stream> has only the inbound_track")
    return Stream(
        url=_media_url(stream.get("url", "")),
        name=stream.get("name"),
        status_callback=stream.get("statusCallback"),
        status_callback_method=_method(stream, "statusCallbackMethod"),
        parameters=dict(_parameter(child) for child in stream),
    )


def _media_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "wss" and not (parts.scheme == "ws" and parts.hostname in _LOOPBACK):
        raise TwimlError("<Stream url> must be wss:// (ws:// only to this machine)")
    if parts.query:
        raise TwimlError("<Stream url> takes no query string: use <Parameter>")
    return url


def _parameter(element: Element) -> tuple[str, str]:
    if element.tag != "Parameter":
        raise TwimlError(f"<Stream> may hold <Parameter>, not <{element.tag}>")
    _only(element, "name", "value")
    name, value = element.get("name"), element.get("value")
    if not name or value is None:
        raise TwimlError("<Parameter> wants a name and a value")
    if len(name) + len(value) >= _MAX_PARAMETER:
        raise TwimlError(f"<Parameter name={name!r}> is 500 characters or longer")
    return name, value


def _redirect(element: Element) -> Redirect:
    _only(element, "method")
    return Redirect(url=_text(element), method=_method(element, "method"))


def _reject(element: Element) -> Reject:
    _only(element, "reason")
    reason = element.get("reason", "rejected")
    if reason not in ("rejected", "busy"):
        raise TwimlError(f"<Reject reason={reason!r}>: it is rejected or busy")
    return Reject(reason=reason)


def _hangup(element: Element) -> Hangup:
    _only(element)
    return Hangup()


def _pause(element: Element) -> Pause:
    _only(element, "length")
    return Pause(seconds=_number(element, "length", 1))


def _say(element: Element) -> Say:
    _only(element, "voice", "language", "loop")
    return Say(text=_text(element), loop=int(_number(element, "loop", 1)))


def _play(element: Element) -> Play:
    _only(element, "loop")
    return Play(url=_text(element), loop=int(_number(element, "loop", 1)))


def _dial(element: Element) -> Dial:
    _only(element, "timeout", "action", "method", "callerId", "answerOnBridge", "timeLimit", "hangupOnStar")
    numbers = [child for child in element if child.tag == "Number"]
    rooms = [child for child in element if child.tag == "Conference"]
    if len(numbers) + len(rooms) != len(element) or len(rooms) > 1:
        raise TwimlError("<Dial> may hold only <Number>, or one <Conference>, here")
    return Dial(
        number=_text(numbers[0]) if numbers else "" if rooms else _text(element),
        timeout_s=_number(element, "timeout", 30),
        action=element.get("action"),
        method=_method(element, "method"),
        conference=_conference(rooms[0]) if rooms else None,
        hangup_on_star=element.get("hangupOnStar") == "true",
    )


def _conference(element: Element) -> Conference:
    _only(
        element, "participantLabel", "startConferenceOnEnter", "endConferenceOnExit", "beep", "waitUrl",
        "statusCallback", "statusCallbackMethod", "statusCallbackEvent", "muted", "maxParticipants",
    )  # fmt: skip
    events = frozenset((element.get("statusCallbackEvent") or "").split())
    unknown = events - {"start", "end", "join", "leave", "mute", "hold", "modify", "speaker", "announcement"}
    if unknown:
        raise TwimlError(f"no such conference event: {', '.join(sorted(unknown))}")
    return Conference(
        name=_text(element),
        label=element.get("participantLabel"),
        end_on_exit=element.get("endConferenceOnExit") == "true",
        status_callback=element.get("statusCallback"),
        status_events=events,
    )


def _gather(element: Element) -> Gather:
    _only(
        element, "input", "numDigits", "timeout", "action", "method", "finishOnKey", "actionOnEmptyResult",
        "language",
    )  # fmt: skip
    if element.get("numDigits") != "1":
        raise TwimlError("<Gather> waits for one key here: numDigits must be 1")
    say = tuple(_verb(child) for child in element)
    if not all(isinstance(verb, Say | Play | Pause) for verb in say):
        raise TwimlError("<Gather> may hold only <Say>, <Play> and <Pause>")
    return Gather(
        say=say,  # type: ignore[arg-type]
        timeout_s=_number(element, "timeout", 5),
        action=element.get("action"),
        method=_method(element, "method"),
    )


_READERS: Mapping[str, Callable[[Element], Verb]] = {
    "Connect": _connect,
    "Redirect": _redirect,
    "Reject": _reject,
    "Hangup": _hangup,
    "Pause": _pause,
    "Say": _say,
    "Play": _play,
    "Dial": _dial,
    "Gather": _gather,
}


def _only(element: Element, *names: str) -> None:
    unknown = sorted(set(element.attrib) - set(names))
    if unknown:
        raise TwimlError(f"<{element.tag}> has no attribute {', '.join(unknown)}")


def _no_stray_text(element: Element) -> None:
    texts = [element.text, *(child.tail for child in element)]
    if any(text and text.strip() for text in texts):
        raise TwimlError(f"text directly inside <{element.tag}>")


def _text(element: Element) -> str:
    text = (element.text or "").strip()
    if not text:
        raise TwimlError(f"<{element.tag}> is empty")
    return text


def _method(element: Element, attribute: str) -> str:
    method = element.get(attribute, "POST")
    if method not in ("GET", "POST"):
        raise TwimlError(f"<{element.tag} {attribute}={method!r}>: it is GET or POST")
    return method


def _number(element: Element, attribute: str, default: int) -> float:
    written = element.get(attribute, str(default))
    try:
        return float(written)
    except ValueError as error:
        raise TwimlError(f"<{element.tag} {attribute}={written!r}> is not a number") from error
