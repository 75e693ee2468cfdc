"""Settings: what is refused, and the keys of secrets at rest."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from voicebot.config import Settings
from voicebot.database import make_private, open_database
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


def modes(*paths: Path) -> list[int]:
    """The permissions of files and directories."""
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


async def test_a_world_readable_data_directory_of_an_earlier_version_is_tightened_at_start(
    shared_dsn: str, tmp_path: Path
) -> None:
    """Opening the database makes the data directory and the key private, and no other directory."""
    ours, others = tmp_path / "ours", tmp_path / "others"
    settings = [
        Settings(_env_file=None, DATABASE_URL=shared_dsn, VOICEBOT_DATA_DIR=each) for each in (ours, others)
    ]
    settings[0].fernet_keys()
    (others / "music").mkdir(parents=True)
    for path, mode in ((ours, 0o755), (ours / "secret.key", 0o644), (others, 0o755)):
        path.chmod(mode)
    for each in settings:
        async with open_database(each, create=True):
            pass
    assert modes(ours, ours / "secret.key", others) == [0o700, 0o600, 0o755]


def test_the_embedded_server_may_pass_through_the_data_directory(tmp_path: Path) -> None:
    """The permission of the group to pass through stays, and no other."""
    (tmp_path / "journal").mkdir()
    for before, after in ((0o710, 0o710), (0o750, 0o700), (0o711, 0o700), (0o700, 0o700)):
        tmp_path.chmod(before)
        make_private(tmp_path)
        assert modes(tmp_path) == [after]
