"""Settings: what is refused, and the keys of secrets at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from voicebot.config import Settings
from voicebot.vault import Vault

LONG, OTHER = "a" * 32, "b" * 32


@pytest.mark.parametrize("key", ["x", "a" * 31, f"{LONG},x", f"{LONG},", "," * 40])
def test_a_secret_key_has_at_least_32_characters(key: str) -> None:
    """A short key, also an old one, is a settings error that says how to make a good one."""
    with pytest.raises(ValidationError, match=r"at least 32 characters.*openssl rand"):
        Settings(VOICEBOT_SECRET_KEY=key)


def test_the_first_secret_key_encrypts_and_all_decrypt() -> None:
    """`new,old` reads what `old` wrote, and `new` alone reads what `new,old` wrote."""
    old, both, new = (
        Vault(*Settings(VOICEBOT_SECRET_KEY=keys).fernet_keys()) for keys in (OTHER, f"{LONG}, {OTHER}", LONG)
    )
    assert both.open(old.seal("one")) == "one"
    assert new.open(both.seal("two")) == "two"


def test_the_generated_key_and_its_directory_are_private(tmp_path: Path) -> None:
    """Without a key, one is generated once, in a directory and a file of this user alone."""
    settings = Settings(VOICEBOT_DATA_DIR=tmp_path / "data")
    keys = settings.fernet_keys()
    assert settings.fernet_keys() == keys
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data", tmp_path / "data/secret.key")]
    assert modes == [0o700, 0o600]
