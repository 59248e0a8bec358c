"""rocketmq-python-client. The verbs and what they print are in ../README.md."""

import signal
import sys
import threading

import probe
import receive
import send

VERBS = {"send": send.run, "receive": receive.run, "probe": probe.run}


def main():
    words = iter(sys.argv[2:])
    options = {name.removeprefix("--"): value for name, value in zip(words, words)}
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    VERBS[sys.argv[1]](options, asked)


if __name__ == "__main__":
    main()
