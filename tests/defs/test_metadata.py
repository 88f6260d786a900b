"""What the Dagster UI shows of text from outside: as it is, never as markdown that fetches or leads anywhere."""

from html import unescape

import dagster as dg
import pytest
from markdown_it import MarkdownIt

from videomoments_dagster.defs import metadata
from videomoments_dagster.defs.checks import _result

_RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_HOSTILE = [
    "![x](http://evil.invalid/p.png)",
    "[click](javascript:alert(1))",
    "[x]: http://evil.invalid",
    "<img src=//evil.invalid/p.png>",
    "\\![x](http://evil.invalid/p.png) \\| `code` | **bold** __it__ ~~no~~ &lt;",
    "# a heading",
    "- a list",
    "12. a list",
    "> a quote",
    "    code",
    "one\n\n![x](http://evil.invalid/p.png)\r\n- two",
]


def _same(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("text", _HOSTILE)
def test_hostile_text_in_a_cell_is_shown_and_does_nothing(text: str) -> None:
    value = metadata.table(["title", "score"], [(text, 7)]).value
    page = _RENDER.render(value)
    assert [tag for tag in ("<img", "<a ", "<code", "<em", "<strong", "<s>") if tag in page] == []
    assert f"<td>{_same(text)}</td>\n<td>7</td>" in unescape(page)


@pytest.mark.parametrize("text", _HOSTILE)
def test_hostile_text_in_a_fault_is_shown_and_does_nothing(text: str) -> None:
    shown = _result(["The first.", text]).metadata["faults"].value
    assert isinstance(shown, str)
    page = unescape(_RENDER.render(shown))
    assert page == f"<ul>\n<li>The first.</li>\n<li>{_same(text)}</li>\n</ul>\n"


@pytest.mark.parametrize(
    "title", ["How bread rises (part 2): 3.5 hours, 40 % - \u201cwhy?\u201d", "\u9762\u5305", "-3", ""]
)
def test_a_plain_title_looks_as_it_is(title: str) -> None:
    page = _RENDER.render(metadata.table(["title", "at"], [(title, 62.5)]).value)
    assert f"<td>{title}</td>\n<td>1:02.5</td>" in page


def test_our_own_links_stay_links() -> None:
    value = metadata.table(["clip"], [(dg.MetadataValue.url("http://localhost:8000/api/clips/a_b"),)]).value
    assert '<a href="http://localhost:8000/api/clips/a_b">open</a>' in _RENDER.render(value)
