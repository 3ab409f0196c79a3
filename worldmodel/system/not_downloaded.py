"""What is found where a file should be, when the file itself was never downloaded.

`git clone` without Git LFS leaves a pointer of three lines, a browser or `wget` a page about the
file, a server the reason for which it gave nothing. All of them have the right name.
"""

import re

HEAD = 512  # bytes that tell
POINTER = re.compile(rb"version https?://(?:git-lfs|hawser)\.github\.com/spec/")
SIZE = re.compile(rb"^size (\d{1,15})\s*$", re.MULTILINE)
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
ANSWERS = (b"<?xml", b"<error", b'{"error"', b'{"message"')


def what_instead(head: bytes) -> str:
    """What a file with these first bytes is instead, and what to do; nothing where it may be it."""
    if POINTER.match(head):
        size = SIZE.search(head)
        whole = f" of {int(size[1]) / 1e6:.1f} MB" if size else ""
        return (
            f"a Git LFS pointer, not the file{whole} that it stands for; run `git lfs pull` in its "
            "repository, or download the file by itself"
        )
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if begin.startswith(PAGES):
        return (
            "a web page, not the file that it is about; download the file itself (on Hugging Face "
            "its address has /resolve/, that of its page /blob/), logged in where that is needed"
        )
    if begin.startswith(ANSWERS):
        beginning = " ".join(head[:120].decode("utf-8", "replace").split())
        return f"a server's answer, not the file ({beginning}…); download it again"
    return ""
