"""Untrusted text (of a file, a hospital or a network peer), escaped for one line of a terminal."""


def printable(text: object, most: int = 120) -> str:
    """`text` in at most `most` printable characters: others are escaped as in Python, and cut text ends in dots."""
    escaped = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text)[: most + 1])
    return escaped if len(escaped) <= most else escaped[: most - 3] + "..."


def printable_path(path: object, most: int = 200) -> str:
    """Like `printable`, but a long path is cut at its start, so that the file's name is kept."""
    escaped = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(path)[-most - 1 :])
    return escaped if len(escaped) <= most else "..." + escaped[3 - most :]
