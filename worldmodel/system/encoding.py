"""Text as other programs write it: UTF-8, or UTF-16 and UTF-32, with a byte order mark or without.

Editors on Windows put three bytes before UTF-8, or save UTF-16. Every text that is read is read
here, so that what opens in one place opens everywhere.
"""

import codecs

# The longer marks first: UTF-32's begins like UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class TextError(ValueError):
    """Bytes that are text in none of the encodings."""


def decode_text(content: bytes, *, is_cut: bool = False) -> str:
    """The text, without its mark. Of what is cut off somewhere, the half letter is left out."""
    mark, encoding = encoding_of(content)
    try:
        return content[len(mark) :].decode(encoding, "ignore" if is_cut else "strict")
    except UnicodeDecodeError as error:
        raise TextError(
            f"byte {len(mark) + error.start} is no text in {encoding.upper()}; "
            "save the file as UTF-8"
        ) from error


def encoding_of(content: bytes) -> tuple[bytes, str]:
    """The mark that bytes begin with, perhaps none, and what they are encoded as."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return mark, encoding
    # Without a mark: our texts begin with a letter of ASCII, whose other bytes are zeros.
    begins = tuple(byte != 0 for byte in content[:2])
    if len(content) % 2 == 0 and begins == (True, False):
        return b"", "utf-16-le"
    if len(content) % 2 == 0 and begins == (False, True):
        return b"", "utf-16-be"
    return b"", "utf-8"
