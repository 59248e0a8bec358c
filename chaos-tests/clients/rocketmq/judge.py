"""Compares what the programs of one client printed (see README.md here).

usage: judge.py [--missing] DIRECTORY COUNT

COUNT is the number of messages per type. Prints one line of figures, and adds what is wrong to DIRECTORY/problems. With --missing it
only says by its exit code whether a receiver still lacks a message.
"""

import sys
from collections import Counter
from pathlib import Path

TYPES = ["normal", "fifo", "delay", "transaction"]
MIXED, FIFO = ["normal", "delay", "transaction"], ["fifo"]
RECEIVERS = {"push": MIXED, "push-fifo": FIFO, "simple": MIXED, "simple-fifo": FIFO}
# More duplicates than this say that acknowledgements do not work.
DUPLICATES_MAX_PERCENT = 20


class Sent:
    """The acknowledged messages of one type: id -> detail of the first acknowledgement."""

    def __init__(self, lines):
        self.details, self.times_ms = {}, []
        self.decided = {}
        for words in lines:
            if words[0] == "sent":
                self.details.setdefault(words[1], words[4])
                self.times_ms.append(int(words[2]))
        self.add_decided(lines)

    def add_decided(self, lines):
        for words in lines:
            if words[0] == "decided":
                self.decided.setdefault(words[1], set()).add((words[3], words[4]))

    def wanted(self):
        return {id for id, detail in self.details.items() if not detail.endswith("rollback")}

    def unwanted(self):
        return self.details.keys() - self.wanted()


class Received:
    """What one receiver got, in order, and what it saw acknowledged."""

    def __init__(self, lines):
        self.bodies, self.times_ms, self.acked, self.unsure, self.after_ack = [], [], set(), set(), set()
        for words in lines:
            if words[0] == "received":
                self.bodies.append(words[1])
                self.times_ms.append(int(words[2]))
                if words[1] in self.acked and int(words[4]) > 1:
                    self.after_ack.add(words[1])
            elif words[0] == "acked":
                self.acked.add(words[1])
            elif words[0] == "unsure":
                self.unsure.add(words[1])


def words_of(path):
    """The lines of a file, without a last one that is not complete."""
    text = path.read_text(errors="replace") if path.exists() else ""
    return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n") and line.strip()]


class Run:
    def __init__(self, directory, count):
        self.directory, self.count = directory, count
        self.sent = {type: Sent(words_of(directory / f"send-{type}" / "out")) for type in TYPES}
        self.sent["transaction"].add_decided(words_of(directory / "checker" / "out"))
        self.from_kafka = {words[0] for words in words_of(directory / "producer" / "acked")}
        # A library may lack a kind of consumer.
        self.types_of = {role: types for role, types in RECEIVERS.items() if (directory / role).exists()}
        self.received = {role: Received(words_of(directory / role / "out")) for role in self.types_of}
        for type in TYPES:
            path = directory / f"kafka-{type}" / "read"
            if path.parent.exists():
                reads = [["received", words[0], "0"] for words in words_of(path)]
                self.received[f"kafka-{type}"] = Received(reads)
                self.types_of[f"kafka-{type}"] = [type]

    def wanted(self, role):
        of_kafka = self.from_kafka if "normal" in self.types_of[role] else set()
        return of_kafka.union(*(self.sent[type].wanted() for type in self.types_of[role]))

    def missing(self, role):
        """Not received; of a simple consumer also: received, and neither acknowledged nor without an answer to that."""
        received = self.received[role]
        got = received.acked | received.unsure if role.startswith("simple") else set(received.bodies)
        return self.wanted(role) - got

    def duplicates(self, role):
        return len(self.received[role].bodies) - len(set(self.received[role].bodies))

    def unwanted(self, role):
        known = self.wanted(role)
        rolled_back = set().union(*(self.sent[type].unwanted() for type in self.types_of[role]))
        got = set(self.received[role].bodies)
        return got & rolled_back, got - rolled_back - known

    def early(self, role):
        due = self.sent["delay"].details
        received = self.received[role]
        return [body for body, at in zip(received.bodies, received.times_ms) if body in due and at and at < int(due[body])]

    def latest_s(self):
        """How late the first delivery of a delayed message was at most, in seconds."""
        due = self.sent["delay"].details
        late = [0]
        for received in self.received.values():
            first = {}
            for body, at in zip(received.bodies, received.times_ms):
                first.setdefault(body, at)
            late += [(at - int(due[body])) / 1000 for body, at in first.items() if body in due]
        return max(late)

    def out_of_order(self, role):
        """Messages that came for the first time after a later one of their message group."""
        groups, highest, seen, wrong = self.sent["fifo"].details, {}, set(), []
        for body in self.received[role].bodies:
            if body in seen or body not in groups:
                continue
            seen.add(body)
            number = int(body.split("-")[1])
            if number < highest.get(groups[body], -1):
                wrong.append(body)
            highest[groups[body]] = max(number, highest.get(groups[body], -1))
        return wrong

    def stored_twice(self):
        """A client that got no answer sends again: Kafka's consumer then finds the text at two places."""
        return {body for role in self.received if role.startswith("kafka-") for body in repeated(self.received[role].bodies)}

    def undecided(self):
        """Transactions that were left to the check-back and about which the producer was not asked."""
        sent = self.sent["transaction"]
        left = [id for id, plan in sent.details.items() if plan.startswith("check-")]
        return [id for id in left if not any(by == "check" for _, by in sent.decided.get(id, ()))]

    def longest_gap_s(self):
        times = sorted(time for sent in self.sent.values() for time in sent.times_ms)
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0) / 1000

    def problems(self):
        for type, sent in self.sent.items():
            lacking = self.count - len(sent.details)
            yield lacking, f"{lacking} {type} messages were not acknowledged"
        if (self.directory / "producer").exists():
            yield self.count - len(self.from_kafka), "Kafka's producer is not fully acknowledged"
        for role, received in self.received.items():
            missing = self.missing(role)
            what = "acknowledged" if role.startswith("simple") else "received"
            yield missing, f"{role} has not {what} {len(missing)} messages ({some(missing)})"
            rolled_back, unknown = self.unwanted(role)
            yield rolled_back, f"{role} got {len(rolled_back)} messages that were rolled back ({some(rolled_back)})"
            yield unknown, f"{role} got {len(unknown)} messages that nobody acknowledged ({some(unknown)})"
            early = self.early(role)
            yield early, f"{role} got {len(early)} messages early ({some(early)})"
            wrong = self.out_of_order(role)
            yield wrong, f"{role} got {len(wrong)} messages out of order ({some(wrong)})"
            again = received.after_ack - self.stored_twice()
            yield again, f"{role} got {len(again)} messages again after their acknowledgement ({some(again)})"
            too_many = 100 * self.duplicates(role) > DUPLICATES_MAX_PERCENT * len(received.bodies)
            yield too_many, f"{role} got {self.duplicates(role)} duplicates"
        undecided = self.undecided()
        yield undecided, f"nobody asked about {len(undecided)} transactions ({some(undecided)})"

    def figures(self):
        """acknowledged, by push, by simple, by Kafka, duplicates, transactions decided by a check-back, longest gap, latest delay"""
        distinct = {role: len(set(received.bodies)) for role, received in self.received.items()}
        by_check = sum(any(by == "check" for _, by in ends) for ends in self.sent["transaction"].decided.values())
        by_kafka = [got for role, got in distinct.items() if role.startswith("kafka-")]
        return [
            sum(len(sent.details) for sent in self.sent.values()),
            distinct["push"] + distinct["push-fifo"] if "push" in distinct else "-",
            distinct["simple"] + distinct["simple-fifo"],
            sum(by_kafka) if by_kafka else "-",
            sum(self.duplicates(role) for role in self.received),
            by_check,
            f"{self.longest_gap_s():.1f}s",
            f"{self.latest_s():.1f}s",
        ]


def repeated(bodies):
    return [body for body, times in Counter(bodies).items() if times > 1]


def some(ids):
    return " ".join(sorted(ids)[:3])


def main():
    *flags, directory, count = sys.argv[1:]
    run = Run(Path(directory), int(count))
    if flags:
        sys.exit(any(run.missing(role) for role in run.received) or bool(run.undecided()))
    with open(run.directory / "problems", "a") as file:
        for wrong, text in run.problems():
            if wrong:
                print(text, file=file)
    print(*run.figures())


if __name__ == "__main__":
    main()
