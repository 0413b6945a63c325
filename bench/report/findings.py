"""What a study shows, as sentences that say which rankings they assert."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence of the summary.

    Attributes:
        about: what it is about, in a word or two.
        ranks: every ranking that the sentence asserts, the better one first.
        command: the sweep that would tell what these runs cannot, to paste.
    """

    about: str
    sentence: str
    ranks: tuple[tuple[str, str], ...] = ()
    command: str = ""
