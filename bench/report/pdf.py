"""Figures as PDF, with fonts that publishers take; all that leans on fontTools' inner workings."""
# mypy: disable-error-code="import-untyped"

from pathlib import Path

from fontTools import subset
from matplotlib.figure import Figure

RC = {"pdf.fonttype": 42}  # TrueType: many publishers refuse the usual Type 3
LAYOUT = ["GSUB", "GPOS", "GDEF"]  # tables of a font by which text is laid out


def save(drawing: Figure, path: Path, *, title: str) -> None:
    """Writes ``path``, reproducible to the byte.

    Cutting a font's layout tables down to the letters that are used takes most of the time, and
    nothing reads them in a PDF, where each letter has its place. Matplotlib has no option to leave
    them out, so they are among fontTools' defaults meanwhile.
    """
    usual = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*usual, *LAYOUT]
    try:
        anonymous = {"CreationDate": None, "Creator": None, "Producer": None, "Title": title}
        drawing.savefig(path, format="pdf", metadata=anonymous)
    finally:
        subset.Options._drop_tables_default = usual
