"""Charts in languages that matplotlib's own font does not have."""

import pytest

from tests.conformance.sandboxes import running
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import installed
from understudy.sandbox.pool import Sizes
from understudy.sandbox.system import has_cjk_fonts
from understudy.settings import Settings, sandbox_folder_of

TITLE = """
import matplotlib.pyplot as plt
plt.title({title!r})
plt.plot([1, 2])
plt.show()
"""


@pytest.mark.parametrize("title", ["売上", "销售额", "매출", "Umsätze"])
async def test_a_chart_has_its_letters_or_says_which_it_lacks(title: str) -> None:
    """Where the fonts are missing (`understudy sandbox install --full` brings them), the model is
    told and can write the title in another way."""
    sandbox = Bubblewrap(installed(sandbox_folder_of(Settings())), sizes=Sizes(spare=0))
    try:
        session = await sandbox.session("thread")
        ran = await running(session, TITLE.format(title=title))
        assert len(ran.result.images) == 1
        if title == "Umsätze" or has_cjk_fonts():
            assert ran.logs == ""
        else:
            assert "missing from font" in ran.logs
        # A letter that no font has is told, or the first check would prove nothing.
        ran = await running(session, TITLE.format(title=title + "\ue000"))
        assert "missing from font" in ran.logs
    finally:
        await sandbox.close()
