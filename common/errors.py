"""The one exception that command lines turn into a single line."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: the value, where it stood, and what would do. Command-line
    programs print it without a traceback and exit with status 2.
    """


def choice(value: object, allowed: object, what: str) -> str:
    """Return ``value`` if it is one of ``allowed``, else raise :class:`InputError` naming both.

    >>> choice("plain", ("themed", "plain"), "look")
    'plain'
    """
    options = [str(option) for option in allowed]  # type: ignore[attr-defined]
    if isinstance(value, str) and value in options:
        return value
    raise InputError(f"{what}={value!r} is not known; use one of: {', '.join(options)}")


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; the message says at which step."""


class AlreadyFinishedError(InputError):
    """The folder holds the very run that was asked for, finished: a sweep passes over it."""


class Interrupted(BaseException):
    """A signal ended the program; not an error, so that nothing catches it by accident.

    Attributes:
        signal_number: Of the signal.
        message: What is saved and how to go on; set by whoever knows, empty before.
    """

    def __init__(self, signal_number: int, message: str = "") -> None:
        super().__init__(signal_number, message)  # both, so that it survives a process pool
        self.signal_number = signal_number
        self.message = message

    def __str__(self) -> str:
        return self.message or "interrupted"
