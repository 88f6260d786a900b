"""Search finds words beside typographic punctuation and in any case, and the newest passages without reading them.

Rewrites `transcript_passages` under its lock: some 20 s for 2,000 transcripts of 8,000 words.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from videomoments_dagster.errors import InvalidConfig

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PUNCTUATION = (
    r"\u00A1-\u00A9\u00AB\u00AC\u00AE-\u00B1\u00B4\u00B6-\u00B8\u00BB\u00BF\u00D7\u00F7"  # Latin-1
    r"\u0387\u055A-\u055F\u0589\u05BE\u05C0\u05C3\u05F3\u05F4\u060C\u061B\u061E\u061F\u066A-\u066D\u06D4"
    r"\u0964\u0965\u0E5A\u0E5B\u104A\u104B\u1361-\u1368\u17D4-\u17DA"  # Greek to Khmer
    r"\u2012-\u2017\u201A\u2020-\u2027\u2030\u2031\u2034-\u2038\u203B-\u205E\u20A0-\u20CF"  # dashes, dots, currencies
    r"\u2190-\u2211\u2213-\u245F\u2500-\u2BFF\u2E00-\u2E7F"  # arrows, mathematics, shapes
    r"\u3001-\u3003\u3008-\u3020\u3030\u303D\u30A0\u30FB\uFE10-\uFE19\uFE30-\uFE52\uFE54-\uFE62\uFE64-\uFE6B"
    r"\uFF01\uFF03-\uFF06\uFF08-\uFF0C\uFF0E\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65\uFFE0-\uFFE6"
    r"\U0001F000-\U0001FAFF"
)
"""What ends a word, in the parts of Unicode that people write punctuation and symbols from."""
_SEARCHED_AS = {
    # soft hyphens, joiners, directions, variation selectors: a word is the same without
    r"\u00AD\u061C\u200B-\u200F\u202A-\u202E\u2060-\u2064\uFE00-\uFE0F\uFEFF": "",
    _PUNCTUATION: ",",
    r"\u02BC\u2018\u2019\u201B\u2032\uFF07": "''",
    r"\u201C-\u201F\u2033\uFF02": '"',  # around a phrase in what is asked, too
    r"\u2010\u2011\u2212\uFE63\uFF0D": "-",
    r"\u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000": " ",
    "\u03c2": "\u03c3",  # a Greek word ends in another sigma, which capitals do not tell apart
}
_PASSAGES = (
    "to_tsvector('english'::regconfig, search_text(text)) || array_to_tsvector(ARRAY[('#'::text || (id >> 11))])"
)
_OLD_PASSAGES = "to_tsvector('english'::regconfig, text)"


def upgrade() -> None:
    if op.get_bind().scalar(sa.text("SHOW server_encoding")) != "UTF8":
        raise InvalidConfig(
            "The database is not encoded in UTF8, which searching needs.",
            hint="Make one with ENCODING 'UTF8' TEMPLATE template0, and move the data there with pg_dump.",
        )
    op.execute(_function())
    op.drop_index("ix_transcripts_full_text_search", "transcripts")
    _replace(_PASSAGES, "to_tsvector('english', search_text(title))")


def downgrade() -> None:
    _replace(_OLD_PASSAGES, "to_tsvector('english', title)")
    op.create_index(
        "ix_transcripts_full_text_search",
        "transcripts",
        [sa.text("to_tsvector('english', full_text)")],
        postgresql_using="gin",
    )
    op.execute("DROP FUNCTION search_text(text)")


def _replace(passages: str, titles: str) -> None:
    op.drop_index("ix_transcript_passages_search", "transcript_passages")
    op.drop_column("transcript_passages", "search")
    op.add_column(
        "transcript_passages",
        sa.Column("search", postgresql.TSVECTOR(), sa.Computed(passages, persisted=True), nullable=True),
    )
    op.drop_index("ix_moments_title_search", "moments")
    for table, name, words in (
        ("transcript_passages", "ix_transcript_passages_search", "search"),
        ("moments", "ix_moments_title_search", titles),
    ):
        # a list of pending entries would be read word by word by every search until the next vacuum
        op.create_index(name, table, [sa.text(words)], postgresql_using="gin", postgresql_with={"fastupdate": "off"})


def _function() -> str:
    """Text as search sees it: letters folded, punctuation as ASCII's, as many words between spaces as there were.

    Where LC_CTYPE is C, PostgreSQL takes all that is not ASCII for letters of one case. What is ASCII needs nothing:
    most of what is said costs no more than the look.
    """
    folded = f"lower(normalize(given){_folding()})"
    for characters, searched_as in _SEARCHED_AS.items():
        folded = f"regexp_replace({folded}, '[{characters}]', '{searched_as}', 'g')"
    return f"""
        CREATE FUNCTION search_text(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN CASE WHEN octet_length(given) = char_length(given) THEN given ELSE {folded} END
    """


def _folding() -> str:
    """The collation by which `lower` knows all letters: the database's own where it does, for its words are compared
    by it too."""
    connection = op.get_bind()
    there = set(connection.scalars(sa.text("SELECT collname FROM pg_collation WHERE collencoding IN (-1, 6)")))
    for name in (None, "pg_c_utf8", "und-x-icu", "C.utf8"):
        collation = f' COLLATE "{name}"' if name else ""
        asked = sa.text(f"SELECT lower('\u00c9\u0416'{collation}) = '\u00e9\u0436'")
        if (name is None or name in there) and connection.scalar(asked):
            return collation
    return ""
