"""Close's rich text: a small part of XHTML between `<body>` tags, and its plain twin.

https://developer.close.com/api/overview/rich-text
"""

from html import escape
from html.parser import HTMLParser

_VOID = ("br", "hr", "img")
_BLOCKS = ("p", "div", "h1", "h2", "h3", "li", "blockquote", "pre", "hr")
_KEPT = {
    **dict.fromkeys(("p", "h1", "h2", "h3", "ul", "ol", "li", "blockquote", "pre", "br", "hr"), ()),
    **dict.fromkeys(("b", "strong", "i", "em", "u", "s", "code"), ()),
    "span": ("style", "class", "data-type", "data-id", "data-label"),
    "a": ("href",),
    "img": ("src", "alt"),
}


def clean(html: object) -> str:
    """The rich text that Close keeps of some HTML; what it does not know is dropped.

    `ValueError` unless the text begins and ends with `body` tags.
    """
    text = html.strip() if isinstance(html, str) else ""
    if not (text.lower().startswith("<body") and text.lower().endswith("</body>")):
        raise ValueError("Rich text must begin and end with <body></body> tags.")
    parser = _Cleaner()
    parser.feed(text)
    parser.close()
    return f"<body>{parser.text()}</body>"


def plain(html: str) -> str:
    """Rich text without its marks; each block is a line of its own."""
    parser = _Plain()
    parser.feed(html)
    parser.close()
    return "\n".join(line.strip() for line in parser.lines).strip()


def rich(text: str) -> str:
    """Plain text as rich text, a paragraph per line."""
    lines = "".join(f"<p>{escape(line, quote=False)}</p>" for line in text.split("\n"))
    return f"<body>{lines}</body>"


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self._hidden += 1
        if tag not in _KEPT:
            return
        if tag == "p" and "p" in self._open:
            self.handle_endtag("p")
        kept = "".join(
            f' {name}="{escape(value or "")}"' for name, value in attrs if name in _KEPT[tag]
        )
        self._parts.append(f"<{tag}{kept}{' /' if tag in _VOID else ''}>")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._hidden = max(self._hidden - 1, 0)
        if tag not in self._open:
            return
        while (last := self._open.pop()) != tag:
            self._parts.append(f"</{last}>")
        self._parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._parts.append(escape(data, quote=False))

    def text(self) -> str:
        return "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])


class _Plain(HTMLParser):
    """Collects lines: a block begins one, and what follows a block begins another."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines = [""]
        self._last = "start"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br" or (tag in _BLOCKS and self._last != "start"):
            self.lines.append("")
        if tag in _BLOCKS:
            self._last = "start"

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._last = "end"

    def handle_data(self, data: str) -> None:
        if not data.strip() and self._last != "text":
            return
        if self._last == "end":
            self.lines.append("")
        self.lines[-1] += data.replace("\n", " ")
        self._last = "text"
