"""What the local Close does of its own accord."""

from dataclasses import dataclass

from sandbox.options import Options


@dataclass(slots=True)
class CloseOptions(Options):
    """What only Close can do: merges that take a while, and name the source in their event."""

    merge_delay: float = 0.0
    merge_names_source: bool = False
