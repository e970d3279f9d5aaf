"""The code that runs inside (sandbox/inside), as one zip file that Python can run."""

import io
import zipfile
from functools import cache
from importlib import resources

_INSIDE = "understudy.sandbox.inside"
_MAIN = f"from {_INSIDE}.start import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def package() -> bytes:
    """The same modules under the same names, and empty packages above them."""
    files = {
        "__main__.py": _MAIN,
        "understudy/__init__.py": "",
        "understudy/sandbox/__init__.py": "",
    }
    for source in resources.files(_INSIDE).iterdir():
        if source.name.endswith(".py"):
            files[f"{_INSIDE.replace('.', '/')}/{source.name}"] = source.read_text("utf-8")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return zipped.getvalue()
