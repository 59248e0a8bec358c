"""What every verb prints."""

import sys
import time


def now_ms():
    return time.time_ns() // 1_000_000


def out(*words):
    # One write per line, so that lines of several threads do not mix.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def err(*words):
    sys.stderr.write(" ".join(map(str, words)) + "\n")
