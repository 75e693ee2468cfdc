"""Encrypts stored secrets with the newest key, so that the older ones can be removed after a rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db import secrets
from db.pool import Database
from voicebot.vault import SecretUnreadable, Vault, rewritten


@dataclass(slots=True)
class Reencryption:
    """Encrypts secrets again, and counts them. A secret in several revisions counts several times."""

    vault: Vault
    reencrypted: int = 0
    current: int = 0
    """Those that the newest key had encrypted already."""
    unreadable: int = 0
    """Those that none of the keys has encrypted; they stay."""

    async def run(self, database: Database) -> None:
        """Encrypt the secrets of all accounts. It may be interrupted, and repeated, at any time."""
        await secrets.rewrite_templates(database, self._document)
        await secrets.rewrite_revisions(database, self._document)
        await secrets.rewrite_channels(database, self._secret)
        await secrets.rewrite_accounts(database, self._secret)

    def _document(self, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
        before = self.reencrypted
        document = rewritten(content, lambda sealed: self._secret(sealed) or sealed)
        return document if self.reencrypted > before else None

    def _secret(self, sealed: str) -> str | None:
        try:
            renewed = self.vault.renewed(sealed)
        except SecretUnreadable:
            self.unreadable += 1
            return None
        if renewed is None:
            self.current += 1
        else:
            self.reencrypted += 1
        return renewed
