"""A handful of random histories through everything; `make prove-full` runs as many as you like.

Here the worker is asked to end in the middle; there it may be killed, which takes its time.
"""

from pathlib import Path

import pytest

from tests.prove.full import SETTINGS, Setting, crowd, service


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(setting.accounts))
async def test_whatever_people_do_in_three_crms_every_promise_is_kept(
    tmp_path: Path, setting: Setting
) -> None:
    async with service(tmp_path, setting) as world:
        counts = await crowd(world, setting, range(12), kill=False, pause=0.05)
    assert counts["histories"] == 12
