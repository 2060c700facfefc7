"""Plausible names for seeded records; the same number always gives the same name."""

_FIRST = """Ada Grace Alan Edsger Barbara Donald Frances John Margaret Dennis Radia Ken Hedy Linus
Katherine Tim Karen Niklaus Sophie Leslie Jean Alonzo Shafi Tony Anita Robin Evelyn Peter Annie
Haskell""".split()
_LAST = """Lovelace Hopper Turing Dijkstra Liskov Knuth Allen Backus Hamilton Ritchie Perlman
Thompson Lamarr Johnson Berners Jones Wirth Wilson Lamport Sammet Shannon Goldwasser Hoare Borg
Milner Boyd Naur Easley Curry Kleene Church""".split()
_HEAD = """Analytical Northern Bright Copper Harbour Silver Granite Meadow Orbit Cedar Lantern
Quantum Summit Velvet Willow Amber Boreal Cobalt Delta Ember Fjord Glacier Horizon""".split()
_TAIL = """Engines Foods Logistics Systems Paper Robotics Textiles Instruments Energy Ceramics
Software Optics Marine Tools Motors Labs Works Health Media""".split()


def person(number: int) -> tuple[str, str]:
    """A full name, and the local part of an e-mail address that is unique to the number."""
    first = _FIRST[number % len(_FIRST)]
    last = _LAST[number // len(_FIRST) % len(_LAST)]
    return f"{first} {last}", f"{first}.{last}.{number}".lower()


def company(number: int) -> tuple[str, str]:
    """A company's name and its domain; the domain is unique to the number."""
    head = _HEAD[number % len(_HEAD)]
    tail = _TAIL[number // len(_HEAD) % len(_TAIL)]
    return f"{head} {tail} {number}", f"{head}-{tail}-{number}.example".lower()
