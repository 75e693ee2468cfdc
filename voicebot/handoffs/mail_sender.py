"""Notices by e-mail: SMTP, with the notice's id as the message's, so that a repetition is one message."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from db.outbox import NoticeRecord
from voicebot.outbox import NotSent, Sent

TIMEOUT_S = 15.0
_PERMANENT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail is handed in."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool
    """From the first byte; otherwise STARTTLS wherever it is offered."""
    sender: str
    """The From address."""

    @classmethod
    def of(cls, url: str, sender: str) -> MailServer:
        """From ``smtp://`` or ``smtps://[user:password@]host[:port]``."""
        parts = urlsplit(url)
        tls = parts.scheme == "smtps"
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or (465 if tls else 587),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            sender=sender,
        )


class MailSender:
    """Hands in one mail a notice; its message has ``to``, ``subject`` and ``text``."""

    def __init__(self, server: MailServer | None) -> None:
        """None: there is no mail server, and every mail is a dead letter that says so."""
        self._server = server

    async def send(self, notice: NoticeRecord) -> Sent:
        """See ``voicebot.outbox.Sender``."""
        server = self._server
        if server is None:
            raise NotSent("no mail server is configured (VOICEBOT_SMTP_URL)", again=False)
        try:
            await aiosmtplib.send(
                _letter(notice, server.sender),
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.tls,
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            code = refused.recipients[0].code if refused.recipients else None
            raise NotSent("the recipient was refused", again=_again(code), status_code=code) from None
        except aiosmtplib.SMTPResponseException as refused:
            # The server's words may quote the message.
            raise NotSent(
                type(refused).__name__, again=_again(refused.code), status_code=refused.code
            ) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            unreachable = isinstance(error, (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError))
            raise NotSent(type(error).__name__, nobody_can=unreachable) from None
        return Sent(status_code=250)


def _again(code: int | None) -> bool:
    return code is None or code < _PERMANENT


def _letter(notice: NoticeRecord, sender: str) -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = sender
    letter["To"] = str(notice.message["to"])
    letter["Subject"] = " ".join(str(notice.message["subject"]).split())
    letter["Date"] = format_datetime(notice.created_at)
    letter["Message-ID"] = f"<{notice.id}@{parseaddr(sender)[1].rpartition('@')[2] or 'voicebot'}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(str(notice.message["text"]))
    return letter
