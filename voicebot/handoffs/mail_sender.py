"""Notices by SMTP. The Message-ID contains the notice's id, so a repetition is recognised."""

from __future__ import annotations

import ssl
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
    """The SMTP server that mail is submitted to."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool
    """Implicit TLS. Otherwise STARTTLS: required with credentials, else used if offered."""
    sender: str
    """The From address."""

    @classmethod
    def from_url(cls, url: str, sender: str) -> MailServer:
        """Parse ``smtp://`` or ``smtps://[user:password@]host[:port]``."""
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
    """Sends one e-mail for each notice, whose message has ``to``, ``subject`` and ``text``."""

    def __init__(self, server: MailServer | None) -> None:
        """Send through ``server``; without one every notice fails."""
        self._server = server

    async def send(self, notice: NoticeRecord) -> Sent:
        """See ``voicebot.outbox.Sender``."""
        server = self._server
        if server is None:
            raise NotSent("no mail server is configured (VOICEBOT_SMTP_URL)", retryable=False)
        try:
            await aiosmtplib.send(
                _message(notice, server.sender),
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=server.password,
                use_tls=server.tls,
                start_tls=_start_tls(server),
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            code = refused.recipients[0].code if refused.recipients else None
            raise NotSent(
                "the recipient was refused", retryable=_is_retryable(code), status_code=code
            ) from None
        except aiosmtplib.SMTPResponseException as refused:
            # The server's text is not logged, because it may quote the message.
            raise NotSent(
                type(refused).__name__, retryable=_is_retryable(refused.code), status_code=refused.code
            ) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotSent(_reason(server, error), medium_down=_is_unreachable(server, error)) from None
        return Sent(status_code=250)


def _start_tls(server: MailServer) -> bool | None:
    """True requires STARTTLS: an attacker who removes the offer from the connection reads the credentials."""
    if server.tls:
        return False
    return None if server.username is None else True


def _is_unreachable(server: MailServer, error: Exception) -> bool:
    """Whether the failure is one of the connection, which all mails share."""
    refused = type(error) is aiosmtplib.SMTPException and _start_tls(server) is True
    return refused or isinstance(error, aiosmtplib.SMTPConnectError | ssl.SSLError)


def _reason(server: MailServer, error: Exception) -> str:
    if type(error) is aiosmtplib.SMTPException and _start_tls(server) is True:
        return "the mail server does not offer STARTTLS, which credentials require"
    return type(error).__name__


def _is_retryable(code: int | None) -> bool:
    return code is None or code < _PERMANENT


def _message(notice: NoticeRecord, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = str(notice.message["to"])
    message["Subject"] = " ".join(str(notice.message["subject"]).split())
    message["Date"] = format_datetime(notice.created_at)
    message["Message-ID"] = f"<{notice.id}@{parseaddr(sender)[1].rpartition('@')[2] or 'voicebot'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(str(notice.message["text"]))
    return message
