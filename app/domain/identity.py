"""Who is who: match keys, normalised, and the verdict over candidates."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from html import unescape
from itertools import product
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import phonenumbers
from email_validator import EmailNotValidError, validate_email
from publicsuffixlist import PublicSuffixList

from app.config import DEFAULT_KEYS, key_parts
from app.domain.entities import equal, is_blank
from app.domain.values import Fields, Key, Value

#: Mail hosts whose domain says nothing about the company. A short list of the largest; a
#: wrong "no" costs one unmatched company, a wrong "yes" would merge strangers.
FREEMAIL = frozenset(
    "gmail.com googlemail.com yahoo.com outlook.com hotmail.com live.com msn.com icloud.com me.com "
    "aol.com gmx.de gmx.net web.de proton.me protonmail.com mail.ru yandex.ru qq.com 163.com "
    "126.com zoho.com fastmail.com".split()
)
#: Sites where companies have a page: the host is not theirs.
SHARED_HOSTS = frozenset(
    "facebook.com linkedin.com instagram.com twitter.com x.com youtube.com github.com "
    "medium.com linktr.ee sites.google.com wixsite.com wordpress.com notion.site".split()
)


#: Characters of a key; longer texts are no names, and no index would take them.
LONGEST = 500
#: Nothing is normalised in these but their case; IDNs may be written in two ways.
_PLAIN_EMAIL = re.compile(r"[a-z0-9._+-]+@(?!.*xn--)[a-z0-9.-]+", re.IGNORECASE | re.ASCII)
_E164 = re.compile(r"\+\d{6,15}(;ext=\w+)?")


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=10_000)  # the same few addresses are compared again and again
def email(text: str) -> str | None:
    """An address in the one form we compare: trimmed, case-folded, Unicode normalised."""
    text = text.strip()
    if _PLAIN_EMAIL.fullmatch(text):
        return text.lower()
    try:
        found = validate_email(
            text, check_deliverability=False, allow_smtputf8=True, test_environment=True
        )
    except EmailNotValidError:
        return text.casefold() if "@" in text else None
    return found.normalized.casefold()


def host(text: str) -> str | None:
    """The host of a URL or a bare domain, without `www.`; None if there is none."""
    text = text.strip()
    if not text or any(c.isspace() for c in text):
        return None
    try:
        name = urlsplit(text if "//" in text else f"//{text}").hostname
    except ValueError:
        return None
    if not name or "." not in name:
        return None
    return name.rstrip(".").removeprefix("www.")


def domain(text: str) -> str | None:
    """The registrable domain that identifies a company; None for shared and free hosts."""
    name = host(text)
    if name is None:
        return None
    own = _suffixes().privatesuffix(name)
    if own is None or own in FREEMAIL or own in SHARED_HOSTS or name in SHARED_HOSTS:
        return None
    return name


@lru_cache(maxsize=10_000)
def phone(text: str) -> str:
    """E.164 (with `;ext=`) where the number says its country, else the text, trimmed."""
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return text.strip()
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{e164};ext={number.extension}" if number.extension else e164


def normalise(kind: str, text: str) -> str | None:
    """One key value in its compared form; None when it identifies nobody."""
    match kind:
        case "email":
            return email(text)
        case "domain":
            return domain(text)
        case "phone":
            return number if _E164.fullmatch(number := phone(text)) else None
        case "external_id":
            return text.strip() or None
        case _:
            # Upper case, accents written in two ways and double blanks make no other name.
            return " ".join(unicodedata.normalize("NFKC", text).casefold().split()) or None


def keys(
    entity: str,
    fields: Fields,
    rules: Sequence[str] | None = None,
    *,
    external_id: str | None = None,
) -> tuple[Key, ...]:
    """The identity keys of a record, sorted so that everyone locks them in one order.

    ``rules`` are those of the configuration (``email``, ``company + name`` …); None means the
    entity's ordinary ones. ``external_id`` is our own record id, where an account keeps it.
    """
    wanted = DEFAULT_KEYS.get(entity, ()) if rules is None else rules
    shown = {**fields, "external_id": external_id}
    return tuple(
        sorted({Key(rule, v) for rule in wanted for v in _values(rule, shown) if len(v) <= LONGEST})
    )


def _values(rule: str, fields: Fields) -> Iterator[str]:
    """What a record says by one rule; a rule of several parts needs a value for each."""
    parts = key_parts(rule)
    for one in product(*(sorted(_part(name, fields)) for name in parts)):
        yield one[0] if len(one) == 1 else orjson.dumps(one).decode()


def _part(name: str, fields: Fields) -> set[str]:
    """The compared forms of one field: of all addresses or numbers where there are several."""
    every: list[Value] = [fields.get(name)]
    if name in ("email", "phone"):
        every.append(fields.get(f"{name}s"))
    flat = [one for value in every for one in (value if isinstance(value, list) else [value])]
    texts = (str(one) for one in flat if isinstance(one, str | int | float))
    if name in _FORMS:
        return {form for text in texts if (form := _FORMS[name](text))}
    return {found for text in texts if (found := normalise(name, text))}


def _content(markup: str) -> str:
    """The words of a text, however its marks and blanks are set, as a fingerprint."""
    words = re.sub(r"<[^>]*>|\s", "", unescape(markup)).casefold()
    return hashlib.sha256(words.encode()).hexdigest()[:32] if words else ""


def _second(moment: str) -> str:
    """A moment to the second: systems keep more or less of it."""
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return moment
    return at.replace(microsecond=0).isoformat()


#: Fields of what happened, in the form in which they are compared.
_FORMS: Mapping[str, Callable[[str], str]] = {
    "body": _content,
    "at": _second,
    "start": _second,
    "end": _second,
}


def contradiction(rules: Sequence[str], theirs: Collection[Key], ours: Collection[Key]) -> str:
    """The rule by which two records differ though they share a weaker key; empty if none.

    The rules are in order of trust: two companies of one name with two domains are two.
    """
    for rule in rules:
        there = {key.value for key in theirs if key.kind == rule}
        here = {key.value for key in ours if key.kind == rule}
        if there & here:
            return ""
        if there and here:
            return rule
    return ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``same`` names the record; ``unsure`` lists the candidates and why."""

    same: UUID | None = None
    unsure: tuple[UUID, ...] = ()
    reason: str = ""

    @property
    def is_new(self) -> bool:
        return self.same is None and not self.unsure


def verdict(candidates: Mapping[Key, UUID], *, taken: Iterable[UUID] = ()) -> Verdict:
    """One candidate: the same. None: new. Several, or one that is taken: unsure.

    ``taken`` are records that already have a living counterpart in the account that asks:
    two of its records claim one identity, and only a person can say which is right.
    """
    found = tuple(sorted(set(candidates.values()), key=str))
    if len(found) > 1:
        named = ", ".join(f"{k.kind} {k.value}" for k in candidates)
        return Verdict(unsure=found, reason=f"its keys ({named}) belong to {len(found)} records")
    if found and found[0] in set(taken):
        named = ", ".join(f"{k.kind} {k.value}" for k in candidates)
        return Verdict(unsure=found, reason=f"another record of this account already has {named}")
    return Verdict(same=found[0]) if found else Verdict()


def compare(one: Fields, other: Fields) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that both have: those that agree, and those that differ.

    Two lists agree if they share an element.
    """
    agrees: list[str] = []
    differs: list[str] = []
    for name in sorted(one.keys() & other.keys()):
        mine, yours = one[name], other[name]
        if is_blank(mine) or is_blank(yours):
            continue
        shared = isinstance(mine, list) and isinstance(yours, list) and bool({*mine} & {*yours})
        (agrees if shared or equal(mine, yours) else differs).append(name)
    return tuple(agrees), tuple(differs)
