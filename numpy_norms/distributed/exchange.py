"""What ranks tell each other: numbers, what they have to agree on, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
RAISED = (ValueError, TypeError, MemoryError)  # what the others raise, too


class Communicator(Protocol):
    """What is asked of a communicator; those of mpi4py have it."""

    def allgather(self, sendobj: Any, /) -> list[Any]:
        """Return what all ranks send, in their order."""


class Part(NamedTuple):
    """What a rank sends: the step it is at, what has to be the same on all, and its numbers."""

    step: str
    agreed: dict[str, Any]
    numbers: Any


class Failure(NamedTuple):
    """What a rank sends in place of its part: what it has raised."""

    kind: type[Exception]
    message: str


def exchanged(
    comm: Communicator, step: str, work: Callable[[], tuple[dict[str, Any], Any, T]]
) -> tuple[list[Any], T]:
    """The numbers of all ranks, in their order, and what this rank keeps for itself.

    `work` makes what the numbers have to agree on, this rank's numbers, and what it keeps. If it
    raises on one rank, all raise, so that none waits for another.
    """
    if not callable(getattr(comm, "allgather", None)):
        raise TypeError(
            f"comm is a {type(comm).__name__}, but a communicator of mpi4py was expected; pass "
            "comm=MPI.COMM_WORLD"
        )
    try:
        agreed, numbers, kept = work()
    except Exception as error:
        kind = next((k for k in RAISED if isinstance(error, k)), RuntimeError)
        comm.allgather(Failure(kind, str(error)))
        raise
    parts: list[Any] = comm.allgather(Part(step, agreed, numbers))
    _refuse(parts)
    return [part.numbers for part in parts], kept


def _refuse(parts: list[Any]) -> None:
    """Raise what a rank has raised, or what they do not agree on."""
    for rank, part in enumerate(parts):
        if isinstance(part, Failure):
            raise part.kind(f"rank {rank}: {part.message}")
    first, *others = parts
    for rank, part in enumerate(others, 1):
        if part.step != first.step:
            raise RuntimeError(
                f"rank 0 is at {first.step}, and rank {rank} at {part.step}; call the same "
                "functions in the same order on all ranks"
            )
        for name, value in first.agreed.items():
            if part.agreed[name] != value:
                raise ValueError(
                    f"{name} is {value} on rank 0, and {part.agreed[name]} on rank {rank}; pass "
                    "the same on all ranks"
                )
