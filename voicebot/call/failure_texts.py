"""What a caller hears when a service fails, in the language of the current agent.

The texts are fixed: the model may be what fails, and authors should not have to write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailureTexts:
    """The texts in one language."""

    moment: str
    """A service failed and is tried again."""
    goodbye: str
    """A service failed and the call ends."""
    people: str
    """A service failed and a person has been requested."""
    fillers: tuple[str, ...]
    """The default fillers, spoken one after another while the caller waits."""
    repeat: str
    """The caller's speech was not transcribed; they are asked to repeat it."""


def failure_texts(language: str) -> FailureTexts:
    """The texts in a language (BCP 47), or in English if there are none."""
    return FAILURE_TEXTS.get(language.partition("-")[0].lower(), FAILURE_TEXTS["en"])


FAILURE_TEXTS: Mapping[str, FailureTexts] = {
    "en": FailureTexts(
        "I'm sorry, one moment, please.",
        "I'm sorry, something does not work on our side. Please call again a little later. Goodbye.",
        "I'm sorry, something does not work on our side. I have asked a colleague to help you.",
        ("One moment, please.", "I am still here, just a moment longer."),
        "I'm sorry, I could not hear that. Could you say it again, please?",
    ),
    "de": FailureTexts(
        "Entschuldigung, einen Moment bitte.",
        "Es tut mir leid, bei uns funktioniert gerade etwas nicht. "
        "Bitte rufen Sie etwas später noch einmal an. Auf Wiederhören.",
        "Es tut mir leid, bei uns funktioniert gerade etwas nicht. "
        "Ich habe jemanden gebeten, Ihnen weiterzuhelfen.",
        ("Einen Moment bitte.", "Ich bin noch da, es dauert noch einen Augenblick."),
        "Entschuldigung, das habe ich nicht gehört. Können Sie es bitte noch einmal sagen?",
    ),
    "fr": FailureTexts(
        "Excusez-moi, un instant, s'il vous plaît.",
        "Je suis désolé, nous avons un problème technique. Merci de rappeler un peu plus tard. Au revoir.",
        "Je suis désolé, nous avons un problème technique. J'ai demandé à un collègue de vous aider.",
        ("Un instant, s'il vous plaît.", "Je suis toujours là, encore un petit instant."),
        "Excusez-moi, je n'ai pas entendu. Pouvez-vous répéter, s'il vous plaît ?",
    ),
    "es": FailureTexts(
        "Disculpe, un momento, por favor.",
        "Lo siento, tenemos un problema técnico. Por favor, llame de nuevo un poco más tarde. Adiós.",
        "Lo siento, tenemos un problema técnico. He pedido a un compañero que le ayude.",
        ("Un momento, por favor.", "Sigo aquí, solo un momento más."),
        "Disculpe, no le he oído. ¿Puede repetirlo, por favor?",
    ),
    "it": FailureTexts(
        "Mi scusi, un momento, per favore.",
        "Mi dispiace, abbiamo un problema tecnico. La preghiamo di richiamare più tardi. Arrivederci.",
        "Mi dispiace, abbiamo un problema tecnico. Ho chiesto a un collega di aiutarla.",
        ("Un momento, per favore.", "Sono ancora qui, ancora un attimo."),
        "Mi scusi, non ho sentito. Può ripetere, per favore?",
    ),
    "pt": FailureTexts(
        "Desculpe, um momento, por favor.",
        "Lamento, temos um problema técnico. Por favor, volte a ligar um pouco mais tarde. Até logo.",
        "Lamento, temos um problema técnico. Pedi a um colega que ajude.",
        ("Um momento, por favor.", "Continuo aqui, só mais um momento."),
        "Desculpe, não ouvi. Pode repetir, por favor?",
    ),
    "nl": FailureTexts(
        "Sorry, een ogenblik alstublieft.",
        "Het spijt me, er werkt iets niet bij ons. Belt u later nog eens. Tot ziens.",
        "Het spijt me, er werkt iets niet bij ons. Ik heb een collega gevraagd u te helpen.",
        ("Een ogenblik alstublieft.", "Ik ben er nog, nog een ogenblikje."),
        "Sorry, dat heb ik niet gehoord. Kunt u het nog eens zeggen?",
    ),
    "pl": FailureTexts(
        "Przepraszam, chwileczkę.",
        "Przepraszam, mamy problem techniczny. Proszę zadzwonić trochę później. Do widzenia.",
        "Przepraszam, mamy problem techniczny. Poprosiłem kolegę o pomoc.",
        ("Chwileczkę, proszę.", "Nadal tu jestem, jeszcze chwilę."),
        "Przepraszam, nie było słychać. Proszę powtórzyć.",
    ),
    "cs": FailureTexts(
        "Omlouvám se, okamžik prosím.",
        "Omlouvám se, máme technický problém. Zavolejte prosím o něco později. Na shledanou.",
        "Omlouvám se, máme technický problém. Kolega byl požádán, aby vám pomohl.",
        ("Okamžik, prosím.", "Jsem stále tady, ještě okamžik."),
        "Omlouvám se, nebylo vás slyšet. Můžete to prosím zopakovat?",
    ),
    "sv": FailureTexts(
        "Ursäkta, ett ögonblick.",
        "Jag är ledsen, något fungerar inte hos oss. Ring gärna igen lite senare. Hej då.",
        "Jag är ledsen, något fungerar inte hos oss. Jag har bett en kollega att hjälpa dig.",
        ("Ett ögonblick, tack.", "Jag är kvar, ett litet ögonblick till."),
        "Ursäkta, det hörde jag inte. Kan du säga det igen?",
    ),
    "da": FailureTexts(
        "Undskyld, et øjeblik.",
        "Jeg beklager, der er noget, der ikke virker hos os. Ring venligst igen lidt senere. Farvel.",
        "Jeg beklager, der er noget, der ikke virker hos os. Jeg har bedt en kollega om at hjælpe dig.",
        ("Et øjeblik, tak.", "Jeg er her stadig, lige et øjeblik endnu."),
        "Undskyld, det hørte jeg ikke. Kan du sige det igen?",
    ),
    "nb": FailureTexts(
        "Beklager, et øyeblikk.",
        "Beklager, det er noe som ikke virker hos oss. Vennligst ring igjen litt senere. Ha det bra.",
        "Beklager, det er noe som ikke virker hos oss. Jeg har bedt en kollega om å hjelpe deg.",
        ("Et øyeblikk, takk.", "Jeg er her fortsatt, bare et øyeblikk til."),
        "Beklager, det hørte jeg ikke. Kan du si det igjen?",
    ),
    "fi": FailureTexts(
        "Anteeksi, hetkinen.",
        "Anteeksi, meillä on tekninen ongelma. Soittakaa hetken kuluttua uudelleen. Kuulemiin.",
        "Anteeksi, meillä on tekninen ongelma. Olen pyytänyt kollegaa auttamaan teitä.",
        ("Hetkinen, olkaa hyvä.", "Olen yhä täällä, vielä pieni hetki."),
        "Anteeksi, en kuullut. Voisitteko toistaa?",
    ),
    "tr": FailureTexts(
        "Özür dilerim, bir dakika lütfen.",
        "Özür dilerim, teknik bir sorun yaşıyoruz. Lütfen biraz sonra tekrar arayın. Hoşça kalın.",
        "Özür dilerim, teknik bir sorun yaşıyoruz. Bir arkadaşımdan size yardım etmesini istedim.",
        ("Bir dakika lütfen.", "Hâlâ buradayım, biraz daha bekleyin lütfen."),
        "Özür dilerim, duyamadım. Tekrar söyler misiniz lütfen?",
    ),
    "ja": FailureTexts(
        "申し訳ございません。少々お待ちください。",
        "申し訳ございません。ただいま不具合が起きております。後ほどおかけ直しください。失礼いたします。",
        "申し訳ございません。ただいま不具合が起きております。担当の者に対応を頼みました。",
        ("少々お待ちください。", "もう少々お待ちください。"),
        "申し訳ございません。聞き取れませんでした。もう一度お願いいたします。",
    ),
    "zh": FailureTexts(
        "对不起，请稍等。",
        "对不起，我们这边出了点问题。请您稍后再打来。再见。",
        "对不起，我们这边出了点问题。我已经请同事来帮助您。",
        ("请稍等。", "我还在，请再稍等一下。"),
        "对不起，我没有听清。请您再说一遍。",
    ),
    "ko": FailureTexts(
        "죄송합니다. 잠시만 기다려 주세요.",
        "죄송합니다. 지금 문제가 생겼습니다. 잠시 후 다시 전화해 주세요. 안녕히 계세요.",
        "죄송합니다. 지금 문제가 생겼습니다. 담당자에게 도움을 요청했습니다.",
        ("잠시만 기다려 주세요.", "조금만 더 기다려 주세요."),
        "죄송합니다. 잘 듣지 못했습니다. 다시 한 번 말씀해 주세요.",
    ),
    "hi": FailureTexts(
        "माफ़ कीजिए, एक क्षण रुकिए।",
        "माफ़ कीजिए, हमारी तरफ़ कुछ तकनीकी समस्या है। कृपया थोड़ी देर बाद फिर फ़ोन कीजिए। नमस्ते।",
        "माफ़ कीजिए, हमारी तरफ़ कुछ तकनीकी समस्या है। आपकी मदद के लिए एक सहकर्मी से कहा गया है।",
        ("एक क्षण रुकिए।", "मैं यहीं हूँ, बस एक क्षण और।"),
        "माफ़ कीजिए, आवाज़ नहीं आई। कृपया फिर से कहिए।",
    ),
}
