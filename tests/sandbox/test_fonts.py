"""Charts in languages that matplotlib's own font does not have."""

import pytest

from tests.conformance.sandboxes import running
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import installed
from understudy.sandbox.pool import Sizes
from understudy.sandbox.system import has_cjk_fonts
from understudy.settings import Settings, sandbox_folder_of

TITLE = """
import warnings
import matplotlib.pyplot as plt
warnings.simplefilter("error")
plt.title({title!r})
plt.plot([1, 2])
plt.show()
"""


@pytest.mark.skipif(not has_cjk_fonts(), reason="`understudy sandbox install --full` brings them")
@pytest.mark.parametrize("title", ["売上", "销售额", "매출", "Umsätze"])
async def test_a_chart_has_no_missing_letters(title: str) -> None:
    sandbox = Bubblewrap(installed(sandbox_folder_of(Settings())), sizes=Sizes(spare=0))
    try:
        session = await sandbox.session("thread")
        ran = await running(session, TITLE.format(title=title))
        assert ran.logs == ""
        assert len(ran.result.images) == 1
        # A letter that no font has is told, or the first check would prove nothing.
        ran = await running(session, TITLE.format(title=title + "\ue000"))
        assert "missing from font" in ran.logs
    finally:
        await sandbox.close()
