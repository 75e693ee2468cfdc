"""Names of languages in English and in the language itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES: Mapping[str, tuple[str, ...]] = {
    "ar": ("arabic", "العربية"),
    "bg": ("bulgarian", "български"),
    "ca": ("catalan", "català"),
    "cs": ("czech", "čeština"),
    "da": ("danish", "dansk"),
    "de": ("german", "deutsch"),
    "el": ("greek", "ελληνικά"),
    "en": ("english",),
    "es": ("spanish", "español"),
    "et": ("estonian", "eesti"),
    "fi": ("finnish", "suomi"),
    "fil": ("filipino",),
    "fr": ("french", "français"),
    "he": ("hebrew", "עברית"),
    "hi": ("hindi", "हिन्दी"),
    "hr": ("croatian", "hrvatski"),
    "hu": ("hungarian", "magyar"),
    "id": ("indonesian", "bahasa"),
    "it": ("italian", "italiano"),
    "ja": ("japanese", "日本語"),
    "ko": ("korean", "한국어"),
    "lt": ("lithuanian", "lietuvių"),
    "lv": ("latvian", "latviešu"),
    "ms": ("malay", "melayu"),
    "nl": ("dutch", "nederlands"),
    "no": ("norwegian", "norsk"),
    "pl": ("polish", "polski"),
    "pt": ("portuguese", "português"),
    "ro": ("romanian", "română"),
    "ru": ("russian", "русский"),
    "sk": ("slovak", "slovenčina"),
    "sv": ("swedish", "svenska"),
    "ta": ("tamil", "தமிழ்"),
    "th": ("thai", "ไทย"),
    "tr": ("turkish", "türkçe"),
    "uk": ("ukrainian", "українська"),
    "vi": ("vietnamese", "tiếng việt"),
    "zh": ("chinese", "mandarin", "中文"),
}


def primary_language(tag: str) -> str:
    """The primary subtag of a language tag: ``de`` for ``de-AT``."""
    return tag.partition("-")[0].lower()


def names_language(text: str, tag: str) -> bool:
    """Whether a text contains the name of a language (in English or its own), or its tag."""
    lower = text.lower()
    return any(name in lower for name in _NAMES.get(primary_language(tag), ())) or bool(
        re.search(rf"(?<![\w-]){re.escape(tag.lower())}(?![\w-])", lower)
    )
