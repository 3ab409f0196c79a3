"""Text from a file on its way to a person: one line, no control characters, of a length to read.

A terminal obeys what it is sent, so a tensor's name could clear the screen or write over what was
said before. `UserError` goes through here; so does everything else that is printed.
"""

from worldmodel.limits import LONGEST_MESSAGE, LONGEST_SHOWN


def printable(text: str, most: int = LONGEST_MESSAGE) -> str:
    """The text with "?" for what has no letter of its own, cut off after `most` letters."""
    flat = "".join(c if c.isprintable() else " " if c in "\n\t" else "?" for c in text[:most])
    return flat if len(text) <= most else f"{flat}…"


def shown(value: object) -> str:
    """A value for a message: short, on one line, whatever it is."""
    try:
        return printable(repr(value), LONGEST_SHOWN)
    except (ValueError, RecursionError):  # a number of 5000 digits, a nest without end
        return f"a {type(value).__name__}"
