"""What the local HubSpot does of its own accord."""

from dataclasses import dataclass

from sandbox.options import Options


@dataclass(slots=True)
class HubSpotOptions(Options):
    """What only HubSpot can do.

    `merge_new_id`: the survivor of a merge gets an id of its own. `merge_deletes`: the losers are
    announced as deleted, too. `auto_company`: a contact's company is made of its e-mail domain.
    `block_erased`: the address of an erased contact cannot be used again. `phones`: numbers are
    kept as people write them. `first_primary`: a record's first company becomes its primary one.
    `rich_texts`: bodies of activities are wrapped as the product's own editor does it.
    """

    merge_new_id: bool = False
    merge_deletes: bool = False
    auto_company: bool = False
    block_erased: bool = True
    phones: bool = False
    first_primary: bool = False
    rich_texts: bool = False
