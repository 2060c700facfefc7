"""Salesforce ids: 15 characters that mind their case, and 3 more so that nobody else has to.

https://help.salesforce.com/s/articleView?id=000385008
"""

import re
from string import ascii_lowercase, ascii_uppercase, digits

_BASE62 = digits + ascii_uppercase + ascii_lowercase
_CHECK = ascii_uppercase + "012345"
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?\Z")


def whole(id: str) -> str:
    """An id of 15 characters with its 3 check characters; one of 18 with the case they ask for."""
    short = id[:15]
    if len(id) == 18:
        wanted = "".join(f"{_CHECK.index(c):05b}"[::-1] for c in id[15:].upper())
        short = "".join(
            c.upper() if bit == "1" else c.lower() for c, bit in zip(short, wanted, strict=True)
        )
    groups = (short[:5], short[5:10], short[10:])
    check = (sum(c.isupper() << n for n, c in enumerate(group)) for group in groups)
    return short + "".join(_CHECK[number] for number in check)


def is_id(text: object) -> bool:
    """Whether this could be an id, of whatever type."""
    if not isinstance(text, str) or not _ID.match(text):
        return False
    return len(text) == 15 or all(c in _CHECK for c in text[15:].upper())


def numbered(prefix: str, number: int) -> str:
    """The id of the so-manieth record of a type."""
    tail = ""
    while number or not tail:
        number, digit = divmod(number, 62)
        tail = _BASE62[digit] + tail
    return whole(f"{prefix}Sb{tail:0>10}")
