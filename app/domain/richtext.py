"""Rich text in one form: what an editor or a vendor does to markup is no edit.

Kept is what a note needs (paragraphs, breaks, lists, headings, emphasis, links); styles, classes
and wrappers are the editor's own. The parser is the standard library's.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

_SAME = {"b": "strong", "i": "em", "div": "p", "strike": "s", "del": "s", "section": "p"}
_INLINE = frozenset("strong em u s code a".split())
_PARAGRAPHS = frozenset("p h1 h2 h3 h4 h5 h6 pre".split())
_BLOCKS = _PARAGRAPHS | frozenset("ul ol li blockquote".split())
_SILENT = frozenset("script style head title template".split())
#: What ends a line although it is not kept.
_BREAKS = frozenset("tr table article header footer dt dd".split())
_SAFE = re.compile(r"(https?:|mailto:|tel:|/|#)", re.I)
_SPACES = re.compile(r"[ \t\r\n\f]+")
_ASCII_SPACE = " \t\r\n\f"
_ROUNDS = 8
_BLOCK = "|".join(sorted(_BLOCKS))
#: Empty elements, breaks and spaces at the edge of a block, a paragraph alone in its list item.
_TIDY = [
    (re.compile(pattern, re.S), instead)
    for pattern, instead in (
        (r"<(\w+)(?: [^>]*)?>(?:[ \n]|<br>)*</\1>", ""),
        (r"[ \n]*<br>[ \n]*", "<br>"),
        (rf"(?:[ \n]|<br>)+(</(?:{_BLOCK})>)", r"\1"),
        (rf"(<(?:{_BLOCK})>)(?:[ \n]|<br>)+", r"\1"),
        (rf"[ \n]+(<(?:{_BLOCK})>)", r"\1"),
        (rf"(</(?:{_BLOCK})>)[ \n]+", r"\1"),
        (r"<li><p>((?:(?!</?p>).)*)</p>", r"<li>\1"),
    )
]


class _Normal(HTMLParser):
    """Writes well-formed markup of the kept elements as it reads."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.open: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        tag = _SAME.get(tag, tag)
        if tag in _SILENT:
            self.silent += 1
        elif tag == "br":
            self._paragraph()
            self.out.append("<br>")
        elif tag in _BREAKS:
            self._leave(_PARAGRAPHS)
        elif tag in _BLOCKS:
            self._leave(_PARAGRAPHS)
            if tag == "li":
                self._leave({"li"}, within={"ul", "ol"})
            self._enter(tag)
        elif tag in _INLINE and tag not in self.open:
            self._paragraph()
            link = next((v for k, v in attrs if k == "href" and v), None) if tag == "a" else None
            safe = link is not None and _SAFE.match(link.strip())
            self._enter(tag, f' href="{escape(link.strip())}"' if link and safe else "")

    def handle_endtag(self, tag: str) -> None:
        tag = _SAME.get(tag, tag)
        if tag in _SILENT:
            self.silent = max(0, self.silent - 1)
        elif tag in self.open:
            self._leave({tag})

    def handle_data(self, data: str) -> None:
        if self.silent:
            return
        text = data if "pre" in self.open else _SPACES.sub(" ", data)
        if text.strip():
            self._paragraph()
        if text and self.open:
            self.out.append(escape(text, quote=False))

    def _paragraph(self) -> None:
        """Text that stands alone gets a paragraph."""
        if not _BLOCKS.intersection(self.open) or self.open[-1:] == ["blockquote"]:
            self._enter("p")

    def _enter(self, tag: str, attributes: str = "") -> None:
        self.out.append(f"<{tag}{attributes}>")
        self.open.append(tag)

    def _leave(self, tags: frozenset[str] | set[str], within: set[str] | None = None) -> None:
        """Close the innermost of these with all that is inside it; not beyond ``within``."""
        for depth in range(len(self.open) - 1, -1, -1):
            if self.open[depth] in (within or ()):
                return
            if self.open[depth] in tags:
                while len(self.open) > depth:
                    self.out.append(f"</{self.open.pop()}>")
                return

    def close(self) -> None:
        super().close()
        while self.open:
            self.out.append(f"</{self.open.pop()}>")


def normal(markup: str) -> str:
    """The one form of this markup; `normal(normal(x)) == normal(x)`, blank stays blank."""
    text = _tidied(markup)
    # To tidy may bring spaces or paragraphs together that the next reading sees as one.
    for _ in range(_ROUNDS):
        before, text = text, _tidied(text)
        if text == before:
            break
    return text


def _tidied(markup: str) -> str:
    parser = _Normal()
    parser.feed(markup)
    parser.close()
    text = "".join(parser.out)
    before = None
    while text != before:
        before = text
        for pattern, instead in _TIDY:
            text = pattern.sub(instead, text)
    return text.strip(_ASCII_SPACE)


def text_of(markup: str) -> str:
    """The text of this markup, a line per paragraph, list item and break."""
    text = normal(markup)
    text = re.sub(r"<br>|</(?:p|h\d|li|pre|blockquote)>", "\n", text)
    plain = re.sub(r"<[^>]*>", "", text)
    for name, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        plain = plain.replace(name, sign)
    return plain.replace("\xa0", " ").strip("\n")


def html_of(text: str) -> str:
    """A text as markup: a paragraph, its lines with breaks between."""
    if not text:
        return ""
    lines = escape(text, quote=False).splitlines()
    return "<p>" + "<br>".join(lines).replace("  ", " \xa0") + "</p>"
