"""The life of a job is closed, the queue is fair, a name means one thing."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.jobs import ENDED, TRANSITIONS, Eta, FairQueue, State, Waiting, follows, job_id
from bridge.protocol import PRIORITIES, STATES

pytestmark = pytest.mark.timeout(60)

LIVE = frozenset(State) - ENDED


# ---- life


def reachable(start: State, through: frozenset[State] = frozenset(State)) -> set[State]:
    seen, edge = {start}, [start]
    while edge:
        for then in TRANSITIONS[edge.pop()] & through - seen:
            seen.add(then)
            edge.append(then)
    return seen


def test_every_state_is_in_the_table_and_can_be_reached():
    assert tuple(State) == STATES == tuple(TRANSITIONS)
    assert reachable(State.RECEIVING) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_life_can_end_and_nothing_becomes_itself(state):
    assert not follows(state, state)
    for end in (State.FAILED, State.CANCELLED):
        assert state in ENDED or follows(state, end)
    assert reachable(state) & ENDED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_only_begins_again(state):
    assert TRANSITIONS[state] == {State.RECEIVING, State.QUEUED}


@pytest.mark.parametrize("state", sorted(LIVE - {State.INTERRUPTED}))
def test_power_may_fail_at_any_time(state):
    assert follows(state, State.INTERRUPTED)


def test_nothing_is_done_without_work():
    before = {state for state in State if follows(state, State.DONE)}
    assert before == {State.ANALYSING, State.RUNNING}


# ---- names

SOUND: dict[str, Any] = {
    "content": "ab" * 32,
    "sample_rate": 44_100,
    "num_channels": 2,
    "num_samples": 1000,
    "settings": {"seed": 1, "mix": 0.5},
    "region": (0, 10),
    "decision": {"rate_out": 48_000},
}


def test_every_input_is_in_the_name():
    others: dict[str, list[Any]] = {
        "content": ["cd" * 32, ""],
        "sample_rate": [48_000],
        "num_channels": [1],
        "num_samples": [1001],
        "settings": [{}, {"seed": 2, "mix": 0.5}, {"seed": 1}, {"seed": 1, "mix": 0.25}],
        "region": [None, (0, 11), (1, 10), (0, 0)],
        "decision": [None, {}, {"rate_out": 44_100}],
    }
    all_of = [job_id(**SOUND)]
    all_of += [job_id(**{**SOUND, name: v}) for name, values in others.items() for v in values]
    for a, b in combinations(all_of, 2):
        assert a != b
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in all_of)


@given(st.permutations(["a", "b", "c", "ü"]))
def test_the_order_of_settings_is_not(names):
    some = {name: ord(name) for name in names}
    assert job_id("x", 1, 1, 1, some) == job_id("x", 1, 1, 1, dict(sorted(some.items())))


def test_this_name_is_this_name():
    """A native client makes the same; docs/protocol.md says how."""
    assert job_id(**SOUND) == "63d4abc232df860eb0c1602d7f635658"


# ---- turns

JOBS = [(f"{client}{n}", client) for client in "abcd" for n in range(4)]


class Queue(RuleBasedStateMachine):
    """Against a list that is searched from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue()
        self.model: list[Waiting] = []

    @rule(job=st.sampled_from(JOBS), priority=st.sampled_from(PRIORITIES))
    def add(self, job, priority):
        waiting = Waiting(*job, priority)
        self.queue.add(waiting)
        if all(one.job != waiting.job for one in self.model):
            self.model.append(waiting)

    @rule(job=st.sampled_from(JOBS))
    def remove(self, job):
        self.queue.remove(job[0])
        self.model = [one for one in self.model if one.job != job[0]]

    @rule(ready=st.sets(st.sampled_from([job for job, _ in JOBS])))
    def turn(self, ready):
        got = self.queue.turn(lambda job: job in ready)
        could = [one for one in self.model if one.job in ready]
        if not could:
            assert got is None
            return
        assert got in could
        best = min(PRIORITIES.index(one.priority) for one in could)
        assert PRIORITIES.index(got.priority) == best  # nothing more urgent could go
        older = [one for one in could if (one.client, one.priority) == (got.client, got.priority)]
        assert older[0] == got  # within a client the oldest goes first

    @invariant()
    def holds_what_it_was_given(self):
        assert len(self.queue) == len(self.model)
        assert set(self.queue) == set(self.model)
        for job, _ in JOBS:
            assert (job in self.queue) == any(one.job == job for one in self.model)
        for n, priority in enumerate(PRIORITIES):
            assert self.queue.urgent(priority) == any(
                one.priority in PRIORITIES[:n] for one in self.model
            )


TestQueue = Queue.TestCase


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 50), min_size=1),
    st.sampled_from(PRIORITIES),
    st.integers(1, 60),
)
def test_a_hundred_jobs_get_no_more_turns_than_one(jobs_of, priority, turns):
    queue = FairQueue()
    for client, count in jobs_of.items():
        for n in range(count):
            queue.add(Waiting(f"{client}{n}", client, priority))
    got = Counter(queue.turn().client for _ in range(turns))
    counts = [got[client] for client in jobs_of]
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.sets(st.sampled_from("abcde")), min_size=1, max_size=60))
def test_who_is_always_ready_waits_one_round_at_most(readiness):
    """Others come and go; the bound holds for every client over the turns it was ready in a row."""
    queue = FairQueue()
    for client in "abcde":
        queue.add(Waiting(client, client, "batch"))
    since = dict.fromkeys("abcde", 0)
    for ready in readiness:
        got = queue.turn(lambda job, ready=ready: job in ready)
        for client in "abcde":
            since[client] = since[client] + 1 if client in ready else 0
            if got is not None and got.client == client:
                since[client] = 0
            assert since[client] < 5, client


def test_an_audition_goes_first_and_the_rest_keeps_its_order():
    queue = FairQueue()
    for client in "ab":
        queue.add(Waiting(client, client, "batch"))
    assert queue.turn().job == "a"
    assert not queue.urgent("batch")
    queue.add(Waiting("x", "a", "audition"))
    assert queue.urgent("batch")
    assert queue.urgent("interactive")
    assert not queue.urgent("audition")
    assert [queue.turn().job for _ in range(3)] == ["x", "x", "x"]
    queue.remove("x")
    assert [queue.turn().job for _ in range(3)] == ["b", "a", "b"]


# ---- how long still


@given(st.floats(0.1, 1e5), st.integers(2, 50), st.floats(0, 1e6))
def test_at_constant_speed_it_knows(seconds, steps, began):
    eta = Eta()
    assert eta.seconds(0.0, began) is None
    for n in range(1, steps + 1):
        fraction = n / steps
        left = eta.seconds(fraction, began + seconds * fraction)
        assert left == pytest.approx(seconds * (1 - fraction), rel=1e-3, abs=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10))))
def test_it_is_never_negative_nor_infinite(walk):
    eta, now = Eta(), 100.0
    for fraction, seconds in walk:
        now += seconds
        left = eta.seconds(fraction, now)
        assert left is None or 0 <= left < float("inf")


def test_what_was_done_before_it_began_is_not_counted_as_speed():
    eta = Eta()
    assert eta.seconds(0.5, 10.0) is None  # half came out of the cache
    assert eta.seconds(0.75, 20.0) == pytest.approx(10.0)
    assert eta.seconds(0.1, 30.0) is None  # begun anew
    assert eta.seconds(0.55, 40.0) == pytest.approx(10.0)
