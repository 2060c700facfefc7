"""Who wrote it: the author's user where the account has one, else a last line of the text.

``(by Ana Lima, via close)`` is put into what is written and taken out of what is read, so that
it never becomes an edit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from app.domain import richtext
from app.domain.codecs import ABSENT, Codec, Context
from app.domain.owners import OWNER, user_of
from app.domain.policy import stamp_of
from app.domain.values import Value

_LINE = re.compile(r"(?:<p>|(?P<inner><br>))\(by [^<]+, via (?P<via>[^<\s,)]+)\)</p>\Z")


def told_by(stamps: Mapping[str, Mapping[str, Any]], account: str) -> str | None:
    """The account that told us of a record's author; None if it is this one."""
    source = stamp_of(stamps, "author").account
    return source if source != account else None


def sign(markup: str, author: Value, context: Context) -> str:
    """The text with a line that names its author."""
    name = context.names.get(str(author), str(author))
    return f"{markup}<p>{escape(f'(by {name}, via {context.via})', quote=False)}</p>"


def unsign(markup: str, context: Context) -> tuple[str, bool]:
    """The text without a line of ours, and whether there was one."""
    found = _LINE.search(markup)
    if found is None or found["via"] not in context.accounts:
        return markup, False
    return markup[: found.start()] + ("</p>" if found["inner"] else ""), True


def _get(body: str | None, user: Any, context: Context) -> Sequence[Value]:
    signed = False
    if body is not None:
        body, signed = unsign(richtext.normal(body), context)
    if signed:
        # The user it shows is the one whose key wrote it.
        return [body or None, ABSENT]
    return [body, *OWNER.get([user], context)]


def _put(values: Sequence[Value], context: Context) -> tuple[str | None, Any]:
    """The body, signed if need be, and the user; an author is never cleared."""
    body, author = values
    text = None if body is None else str(body)
    if not author:
        return text, ABSENT
    mail = str(author).casefold()
    # Nobody stands in for an author: that would be true nowhere.
    user = user_of(context.owners.aliases.get(mail, mail), context.directory)
    if user is None and context.via is not None:
        text = sign(text or "", author, context)
    return text, ABSENT if user is None else user


def _html_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    return _get(_said(raw[0]), raw[1], context)


def _html_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    return _put(values, context)


def _twins_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    text, html, user = raw
    said = _said(html)
    return _get(richtext.html_of(str(text)) if said is None and text else said, user, context)


def _twins_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    """A text in XHTML between body tags; the vendor makes the plain one from it."""
    body, user = _put(values, context)
    return [ABSENT, None if body is None else xhtml(body), user]


def _text_get(raw: Sequence[Any], context: Context) -> Sequence[Value]:
    text, user = raw
    return _get(None if text is None else richtext.html_of(str(text)), user, context)


def _text_put(values: Sequence[Value], context: Context) -> Sequence[Any]:
    body, user = _put(values, context)
    return [None if body is None else richtext.text_of(body), user]


def xhtml(markup: str) -> str:
    return f"<body>{markup.replace('<br>', '<br/>')}</body>"


def _said(value: Any) -> str | None:
    return None if value is None else str(value)


#: (body, author) <-> (HTML, user), <-> (plain text, user), and <-> (plain text, XHTML, user).
SIGNED = Codec(_html_get, _html_put)
SIGNED_TEXT = Codec(_text_get, _text_put)
SIGNED_TWINS = Codec(_twins_get, _twins_put, shown=frozenset({0}))
