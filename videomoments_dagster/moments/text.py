"""Words of a text as the algorithms compare them: tokens, function words, light stems. No times, no statistics.

Works on text without capitals or punctuation, as recognizers give it.
"""

import re
from functools import lru_cache

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

_ANAPHORA = "it that this they he she and but because or which them those these there also then yeah no like"
ANAPHORA = frozenset(_ANAPHORA.split())  # a sentence that begins with one of these goes on with what was said

_FUNCTION_WORDS = """
a an the this that these those each every either neither both all any some no none such same other others another i
me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our ours
ourselves they them their theirs themselves who whom whose which what whatever one ones someone somebody something
anyone anybody anything everyone everybody everything nobody nothing am is are was were be been being do does did
doing done have has had having will would shall should can could may might must ought gonna wanna gotta of in on at
by for from with without within into onto upon to toward towards through throughout over under above below between
among across along around about against before after during since until till up down out off away and or but nor so
yet if then else than because although though while whereas unless as like not never ever just only even also too
very quite rather really actually basically literally obviously essentially probably maybe perhaps definitely
certainly exactly simply still already again always often sometimes usually once almost enough now here there today
where when why how however therefore thus hence anyway anyways otherwise instead more most much many less least few
little lot lots bit kind kinds sort sorts else whole yes yeah yep no nope okay ok oh ah uh um uhm hmm mm hm right
well alright sure cool great nice good please thank thanks hello hi hey welcome sorry wow guess mean means meant
course fine get gets got gotten getting go goes going gone went come comes came coming make makes made making take
takes took taken taking give gives gave given giving put puts let lets say says said saying tell tells told know
knows knew known think thinks thought thinking see sees saw seen seeing look looks looked looking want wants wanted
need needs needed try tries tried trying use uses used using seem seems keep keeps talk talks talked talking mention
mentioned happen happens happened start starts started work works thing things stuff way ways time times people
person guy guys point points part parts case cases example question questions idea fact reason place side end day
days back first second third last next new old big small different able better best bad long two three four five six
seven eight nine ten own
certain several various
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())

_SUFFIXES = (
    *(("ies", "y"), ("sses", "ss"), ("ingly", ""), ("edly", ""), ("ations", "ate"), ("ation", "ate"), ("ing", "")),
    *(("ed", ""), ("ers", "er"), ("es", "e"), ("ly", ""), ("s", "")),
)


def tokens(text: str) -> list[str]:
    """The words of `text` in lower case, with straight apostrophes, in order."""
    return [word.lower().replace("\u2019", "'") for word in _TOKEN.findall(text)]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """A light stem: 'wallets' and 'wallet', 'signing' and 'sign' agree. Not linguistics, only for comparing."""
    if len(word) > 4:
        for suffix, replacement in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not (suffix == "s" and word.endswith("ss")):
                word = word[: -len(suffix)] + replacement
                break
    return word.rstrip("e") if len(word) > 4 else word


@lru_cache(maxsize=50_000)
def content_stem(word: str) -> str | None:
    """The stem of a lower-case token that carries content; None for function words, numbers and short words."""
    base = word.split("'", 1)[0]
    if word in FUNCTION_WORDS or base in FUNCTION_WORDS or word.endswith("n't") or len(base) < 3 or base.isdigit():
        return None
    return stem(base)


@lru_cache(maxsize=20_000)
def content_stems(text: str) -> tuple[str, ...]:
    """The content stems of `text`, in order."""
    return tuple(found for word in tokens(text) if (found := content_stem(word)))
