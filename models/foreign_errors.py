"""Other libraries' errors, told in our own one-line messages."""

_LENGTH = 300


def reason_of(error: Exception) -> str:
    r"""Returns the message of another library's error as a part of one line, cut where it is long.

    >>> reason_of(RuntimeError("size mismatch:\n  head."))
    'size mismatch: head'
    """
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return reason if len(reason) <= _LENGTH else f"{reason[:_LENGTH]}…"
