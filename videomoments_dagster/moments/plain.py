"""Text from outside made plain: one line, nothing a terminal, a page or a chat template would act on.

Speech goes through here on its way to a model, and a model's titles and reasons on their way back.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

_TAG = re.compile(r"</?[A-Za-z!][^<>]{0,80}>")
_EMPHASIS = re.compile(r"\*\*|__|~~|`+")
_LIST_MARK = re.compile(r"^(?:[#>*\-\u2022]+\s+)+")
_QUOTES = "\"'\u201c\u201d\u2018\u2019\u00ab\u00bb"
# what control tokens and instruction marks of chat models are made of: <|im_end|>, </s>, [INST]
_LOOKALIKES = str.maketrans({"<": "\u2039", ">": "\u203a", "[": "(", "]": ")"})
_RULE = re.compile(r"[=\-_#*~`]{3,}")
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_VIRAMA = 9  # its combining class


def one_line(text: str) -> str:
    """Without control, format and surrogate characters, and with single spaces.

    Joiners stay where they are part of the spelling: Persian, Indic scripts, emoji made of several.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    visible = [c for c in kept if c in (_NON_JOINER, _JOINER) or unicodedata.category(c) not in ("Cf", "Cs", "Co")]
    return " ".join("".join(_spelled(visible)).split())


def _spelled(characters: Sequence[str]) -> Iterator[str]:
    """Without joiners that change nothing: between ASCII letters or marks they would only hide what is written."""
    before = ""
    for c, after in zip(characters, (*characters[1:], ""), strict=True):
        if c not in (_NON_JOINER, _JOINER) or _joins(c, before, after):
            yield c
            before = c


def _joins(joiner: str, before: str, after: str) -> bool:
    if before and unicodedata.combining(before) == _VIRAMA:
        return True  # also at the end of a word, as in Malayalam
    if f"{before}{after}".isascii():
        return False
    kinds = ("L", "M", "So", "Sk") if joiner == _JOINER else ("L", "M")  # So and Sk: emoji and their skin tones
    return all(c and unicodedata.category(c).startswith(kinds) for c in (before, after))


def as_speech(text: str) -> str:
    """One line that can neither close the fence around it nor hold a control token of a chat template."""
    return " ".join(_RULE.sub(" ", one_line(text).translate(_LOOKALIKES)).split())


def as_label(text: str, most_characters: int) -> str:
    """One line without markup or the quotes around it, shortened at a word; empty when nothing is left."""
    plain = _EMPHASIS.sub("", _TAG.sub("", one_line(text))).strip()
    plain = _LIST_MARK.sub("", plain)
    if len(plain) > 1 and plain[0] in _QUOTES and plain[-1] in _QUOTES:
        plain = plain[1:-1].strip()
    if not any(c.isalnum() for c in plain):
        return ""
    return shortened(plain, most_characters)


def as_sentence(text: str, most_characters: int) -> str:
    """A label that ends like a sentence."""
    label = as_label(text, most_characters - 1)
    return label if not label or label[-1] in ".!?\u2026\u3002" else f"{label}."


def shortened(text: str, most_characters: int) -> str:
    """At most that long, cut at a word where there is one."""
    if len(text) <= most_characters:
        return text
    kept = text[: most_characters - 1]
    at_word = kept if text[most_characters - 1] == " " else kept.rsplit(" ", 1)[0]
    return (at_word if len(at_word) > most_characters // 2 else kept).rstrip(" ,;:.-") + "\u2026"
