"""What the client process is asked to do, and what it answers: one JSON line each."""

import msgspec


class Ask(msgspec.Struct, frozen=True):
    """One request. `{id}` in the path is the id of its flow's first answer."""

    method: str
    path: str
    body: str = ""
    holds: str = ""  # What the answer must have in it.


class Load(msgspec.Struct, frozen=True, tag="load"):
    """So many clients, each repeating a flow of requests for a time."""

    port: int
    flow: list[Ask]
    clients: int
    seconds: float


class Streams(msgspec.Struct, frozen=True, tag="streams"):
    """So many streams, read to their ends, so many rounds; `event` marks one event. They begin at
    once, or spread over a time."""

    port: int
    ask: Ask
    event: str
    streams: int
    rounds: int
    starts_s: float = 0.0


class Target(msgspec.Struct, frozen=True):
    """Where a sample is taken: from sending the request to the first `mark` in the answer, or to
    the answer's end where there is no mark."""

    port: int
    asks: list[Ask]  # One for each sample.
    mark: str = ""


class Samples(msgspec.Struct, frozen=True, tag="samples"):
    """Samples of each target in turn, with so many streams of `beside` open all the while."""

    targets: list[Target]
    beside: Streams | None = None


class Stamped(msgspec.Struct, frozen=True, tag="stamped"):
    """So many streams of stamped deltas at once, their starts spread over a time."""

    port: int
    ask: Ask
    streams: int
    starts_s: float
    deltas: int  # Each stream must bring so many.
    is_ours: bool  # Ours have a grammar of events; the relay's have none.


class Cancels(msgspec.Struct, frozen=True, tag="cancels"):
    """For each thread: start a run, wait until the provider is silent, cancel."""

    port: int
    upstream_port: int
    threads: list[str]
    body: str


Job = Load | Streams | Stamped | Samples | Cancels


class Done(msgspec.Struct, frozen=True):
    """What came of a job: requests or events, and seconds; or lists of samples in seconds."""

    count: int = 0
    seconds: float = 0.0
    samples: list[list[float]] = []
    cpu_s: float | None = None  # The client's own while it measured, when it does more after.
