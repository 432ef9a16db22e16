"""What is concluded: of a question that rows answer, of a window of live rows, of a variant.

Each is a text as well, and is written, shown and read back as one.
"""

from enum import StrEnum


class Conclusion(StrEnum):
    """What an interval or a test says to a question, where chance could have had a hand in it."""

    YES = "yes"
    NO = "no"
    UNCLEAR = "unclear"


class Light(StrEnum):
    """How alarming a window of live rows is, from the least to the most."""

    NOT_JUDGED = ""
    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class Ships(StrEnum):
    """Whether a variant of the winner may ship, and if not, why."""

    OF_ANOTHER_MODEL = ""
    YES = "yes"
    CHANGES = "no, changes too much"
    LOSES = "no, loses too much"
    DEPENDS = "no, depends on the other rows of a request"
