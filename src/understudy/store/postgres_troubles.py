"""What PostgreSQL and its driver raise, sorted by what it means to whoever asked."""

from types import TracebackType

from asyncpg import exceptions

from understudy.store import Unavailable


class Refused(ConnectionError):
    """The way to the server ends at something that an operator has to mend."""


# The server does not let us do what we came for: what an operator has to mend. At a start it is
# told as a mistake in the settings, later it is as any other trouble: somebody is at work there.
REFUSALS = (
    exceptions.InvalidAuthorizationSpecificationError,  # A wrong password among them.
    exceptions.InvalidCatalogNameError,
    exceptions.InvalidSchemaNameError,
    exceptions.InsufficientPrivilegeError,
    exceptions.UndefinedTableError,
    exceptions.UndefinedFunctionError,
)
# Troubles of the server or the way to it, which strike whoever asks just then.
TROUBLES = (
    OSError,  # TimeoutError is one.
    exceptions.PostgresConnectionError,
    exceptions.InsufficientResourcesError,  # The disk is full, no memory, too many connections.
    exceptions.OperatorInterventionError,  # It shuts down, crashed, starts, or had enough of us.
    exceptions.PostgresSystemError,
    exceptions.InternalServerError,
    exceptions.ReadOnlySQLTransactionError,  # It has become a standby.
    exceptions.TransactionTimeoutError,
    exceptions.LockNotAvailableError,
    *REFUSALS,
)
# Of these nothing is left to find out: the server lives and has undone what it was asked for.
UNDONE = (
    exceptions.InsufficientResourcesError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.LockNotAvailableError,
    *REFUSALS,
)
# The server gave this up for another's sake; asked again, it will go.
AGAIN = (exceptions.DeadlockDetectedError, exceptions.SerializationError)
# What an attempt may end with that is no caller's fault.
FAILURES = (*TROUBLES, *AGAIN)

# What no statement may be given: of another type, of another range, too long for an index.
_UNFIT = (
    exceptions.DataError,
    exceptions.ProgramLimitExceededError,
    exceptions.NotNullViolationError,
)


def unavailable(error: BaseException) -> Unavailable:
    """A trouble in our words."""
    return Unavailable(f"PostgreSQL cannot be used: {words_of(error)}")


def words_of(error: BaseException) -> str:
    """What an error says, on one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error).partition("\n")[0] or type(error).__name__


class TrueErrors:
    """The driver's words for a connection that is gone, and for arguments that fit no parameter:
    within this they are a ConnectionError and a TypeError."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, _UNFIT):
            raise TypeError(words_of(error)) from error
        if isinstance(error, exceptions.InterfaceError | exceptions.InternalClientError):
            raise ConnectionError(words_of(error)) from error
