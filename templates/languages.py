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


_LANGUAGES = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
    dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
    ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
    lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
    rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
    ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()  # noqa: SIM905 - 180 codes are read better in rows
)
"""The languages of ISO 639-1; those of three letters are not checked."""

_REGIONS = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT
    BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH
    ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT
    HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS
    LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI
    NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG
    SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG
    UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
    """.split()  # noqa: SIM905 - 180 codes are read better in rows
)
"""The regions of ISO 3166-1 alpha-2, and XK (Kosovo), which CLDR has too."""


def unknown_subtag(tag: str) -> str:
    """The language or region of a BCP 47 tag that does not exist, as "language xx"; "" if both do.

    The tag is well-formed. Languages of three letters and regions of three digits are not checked.
    """
    language, *rest = tag.split("-")
    if len(language) == 2 and language.lower() not in _LANGUAGES:
        return f"language {language}"
    region = next((part for part in rest if len(part) == 2), "")
    return f"region {region}" if region and region.upper() not in _REGIONS else ""


def primary_language(tag: str) -> str:
    """The primary subtag of a language tag: ``de`` for ``de-AT``."""
    return tag.partition("-")[0].lower()


def names_language(text: str, tag: str) -> bool:
    """Whether a text contains the name of a language (in English or its own), or its tag."""
    lower = text.lower()
    return any(name in lower for name in _NAMES.get(primary_language(tag), ())) or bool(
        re.search(rf"(?<![\w-]){re.escape(tag.lower())}(?![\w-])", lower)
    )
