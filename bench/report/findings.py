"""What a report says in words, and by which rule.

Each sentence is a claim, and says what the data can tell:

- One thing is called better than another only where their difference, paired by seed, is clear
  after Holm's correction over every difference that the report mentions
  (``analysis.tables.differences``); else the two "cannot be told apart".
- Fewer than three seeds have no interval, and rank nothing.
- A region that the values tried cut off has a width of at least so much. It is neither ranked nor
  called the least.
- Optimizers with unequal numbers of settings, settings chosen in different ways, or values at other
  distances are not compared, and the sentence says so.
- Only settings that were drawn at random answer for a budget.
- Where the runs cannot tell, the sentence comes with the command that would.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A sentence, with what it is about.

    Attributes:
        ranks: every (better, worse) that the sentence asserts.
        command: what would tell, to be pasted into a shell; empty where nothing is open.
    """

    about: str
    sentence: str
    ranks: tuple[tuple[str, str], ...] = ()
    command: str = ""
