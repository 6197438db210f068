"""Detect the language of a text and the encoding of a file, for subtitles, without a dictionary or a model.

Only English and Chinese are supported; other languages are named in messages.
"""

from __future__ import annotations

import re
from collections import Counter

from m3dllm.types import Lang

NAMES: dict[Lang, str] = {"en": "English", "zh": "Chinese"}
ENOUGH = 0.02
"""The minimum share of a language's function words among the words of a text in that language."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SCRIPTS = (
    ("Japanese", r"[\u3040-\u30ff\uff66-\uff9f]"),
    ("Korean", r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    ("Chinese", r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    ("Russian or another language in Cyrillic letters", r"[\u0400-\u04ff]"),
    ("Greek", r"[\u0370-\u03ff\u1f00-\u1fff]"),
    ("Arabic or another language in Arabic letters", r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]"),
    ("Hebrew", r"[\u0590-\u05ff]"),
    ("Thai", r"[\u0e00-\u0e7f]"),
    ("Hindi or another language of India", r"[\u0900-\u0d7f]"),
    ("Latin", r"[A-Za-zÀ-ÖØ-öø-\u024f\u1e00-\u1eff]"),
)
_SCRIPT = [(name, re.compile(letters)) for name, letters in _SCRIPTS]

_SMALL_WORDS = {
    "English": "the and you that was for are with this have they what not his her she from your we're it's i'm don't "
    "is of to it he be do my me we if as who when there were been will would about know out",
    "German": "der die das und ist nicht ich sie wir ein eine den dem mit auf für von zu auch es was du mich dich "
    "sich aber wenn oder dass war hat haben sind bin kein noch nur wie",
    "French": "le la les des et est une un pas que qui dans pour vous nous je tu il elle ce sur avec mais sont "
    "c'est j'ai au aux du ne se ça été cette mon être",
    "Spanish": "el la los las de que y en un una por para con no es se lo su pero como más está muy mi yo qué "
    "esto eso del al nos cuando sí hay",
    "Portuguese": "o os as de que e em um uma para com não é se por mas como mais está muito meu eu você isso "
    "isto do da no na dos ao ele ela são",
    "Italian": "il lo gli di che e un una per con non è si ma come più sono mi io cosa questo della nel dei del "
    "le ho hai ci anche sei",
    "Dutch": "de het een en van ik je niet dat is die we zijn op met voor maar ze wat er aan hebben heb naar dit "
    "ook zo kan jij hij",
    "Swedish": "och att det som en jag är inte på för med han du vi den av har de till ett om så men var mig "
    "kan vad nu",
    "Norwegian or Danish": "og det at jeg er ikke på for med han du vi den av har de til et om så men var meg mig "
    "kan hva hvad nå nu",
    "Polish": "nie to się jest w na że z do co jak tak ja ale mnie czy tu mam jestem już",
    "Turkish": "bir bu ve ne için ben çok var mı değil o da de sen ama gibi daha evet",
    "Indonesian or Malay": "yang dan di itu ini tidak aku kau kita dengan untuk ada apa saya dia akan",
    "Vietnamese": "là của và không tôi có anh một những cho được này người đã em",
}
_OWN = {name: frozenset(words.split()) for name, words in _SMALL_WORDS.items()}

# The most frequent characters of running text, in both scripts: a wrong decoding hardly ever yields them.
_FREQUENT = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里"
    "這個們來為國時會對過發後裡說沒麼還從動進樣學長點現開關問無電話車東見聽讓給嗎"
    "她没什么好去看想都吗还从动进样学长点现开关问无电话车东见听让给很把被您吧呢啊知道怎先"
)


def language_of(text: str) -> str:
    """The name of the text's language, such as "English" or "German"; "" if it has no letters.

    By its script, and in Latin script by its function words; "English" if there are too few of these.
    """
    counts = Counter({name: len(letters.findall(text)) for name, letters in _SCRIPT})
    if not counts.total():
        return ""
    if counts["Japanese"] * 10 > counts["Chinese"] > 0 or counts["Japanese"] > counts["Latin"] / 4:
        return "Japanese"  # kana beside its characters
    latin_words = len(re.findall(r"[A-Za-zÀ-ÖØ-öø-\u024f]+", text))
    weights = counts | Counter({"Latin": 0})
    weights["Latin"] = latin_words * 2  # a Chinese character counts as half a word
    best = max(weights, key=lambda name: weights[name])
    return _by_small_words(text) if best == "Latin" else best


def lang_of(text: str) -> Lang | None:
    """The text's language if it is English or Chinese, else None."""
    name = language_of(text)
    return next((lang for lang, known in NAMES.items() if known == name), None)


def _by_small_words(text: str) -> str:
    words = Counter(word.lower().replace("’", "'") for word in _WORD.findall(text))
    total = words.total()
    found = {name: sum(words[word] for word in own) for name, own in _OWN.items()}
    best = max(found, key=lambda name: (found[name], name == "English"))
    return best if found[best] >= max(2, ENOUGH * total) else "English"


def decoded(data: bytes) -> tuple[str, str]:
    """(text, encoding) of a text: UTF-8, UTF-16 or UTF-32, GBK (GB 18030), Big5, Shift-JIS, EUC-KR, or else Latin-1.

    Among the Chinese encodings and Latin-1, it chooses the one that yields the most characters frequent in Chinese.
    """
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32")):
        if data.startswith(mark) and (text := _try(data.removeprefix(b"\xef\xbb\xbf"), name)) is not None:
            return text, name
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data[: len(data) // 2 * 2].decode("utf-16", "replace"), "utf-16"
    if b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        name = "utf-16-le" if odd >= even else "utf-16-be"
        if (text := _try(data[: len(data) // 2 * 2], name)) is not None:
            return text, name
    if (text := _try(data, "utf-8")) is not None:
        return text, "utf-8"
    scores = {name: _frequent_share(text) for name in _CHINESE if (text := _try(data, name)) is not None}
    best = max(scores, key=lambda name: scores[name], default="")
    if best and scores[best] >= LEAST_FREQUENT:
        return data.decode(best), _CHINESE[best]
    for name, said, letters in _NEIGHBOURS:
        text = _try(data, name)
        if text is not None and 2 * len(letters.findall(text)) >= sum(c > "\x7f" for c in text):
            return text, said
    return data.decode("cp1252" if _try(data, "cp1252") is not None else "latin-1"), "latin-1"


LEAST_FREQUENT = 0.12
"""The minimum share of frequent characters in a Chinese text; a wrong decoding stays below."""
_NEIGHBOURS = tuple(
    (name, said, dict(_SCRIPT)[script])
    for name, said, script in (("cp932", "shift-jis", "Japanese"), ("cp949", "euc-kr", "Korean"))
)
"""Encodings of languages that are detected, but not supported: half of the non-ASCII characters are in their script."""
_CHINESE = {"gb18030": "gbk", "big5": "big5", "big5hkscs": "big5"}


def _try(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return None


def _frequent_share(text: str) -> float:
    """The share of characters frequent in Chinese among those beyond ASCII and punctuation."""
    beyond = [c for c in text if ord(c) > 0x2FFF and not 0x3000 <= ord(c) < 0x3040 and not 0xFF00 <= ord(c) < 0xFFF0]
    strange = sum(0x7F < ord(c) < 0x2000 for c in text)
    return sum(c in _FREQUENT for c in beyond) / (len(beyond) + strange) if beyond else 0.0
