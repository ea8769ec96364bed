"""The one exception that is shown to the user as its message alone, without a traceback."""


class UserError(Exception):
    """A mistake or a circumstance that the user can mend: the message says what was wrong, where, and what to do."""
