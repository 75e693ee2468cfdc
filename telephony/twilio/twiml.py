"""TwiML: the text of a document, and the reply that contains it."""

from __future__ import annotations

import re

from twilio.twiml.voice_response import VoiceResponse

from telephony.webhook import WebhookReply

XML = "text/xml"

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not have, not even escaped: Twilio would refuse the whole document."""


def text_of(response: VoiceResponse) -> str:
    """The document as text. Control characters in what is said become spaces."""
    return _NOT_IN_XML.sub(" ", str(response))


def reply_with(document: VoiceResponse | str) -> WebhookReply:
    """The reply with a document, or with the text of one."""
    text = document if isinstance(document, str) else text_of(document)
    return WebhookReply(status=200, content_type=XML, body=text)
