"""Values of options, and failures, as the scripts of this folder have them in common."""

import argparse
import re


class Failure(Exception):
    """What ends a script with one line."""


def size(text):
    """64k is 65,536, as in the command's options."""
    match = re.fullmatch(r"(\d+)([kMG]?)", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 4096, 64k or 1M")
    return int(match[1]) << {"": 0, "k": 10, "M": 20, "G": 30}[match[2]]


def counts(text):
    """Ascending rank counts without repetitions."""
    try:
        values = sorted({int(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or values[0] < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of rank counts such as 1,2,4,8")
    return values


def positive(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def quantity(text):
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value
