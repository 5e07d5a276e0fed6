"""The error that a command reports to the user."""


class ProblemError(Exception):
    """One sentence that tells the user what happened and what to do; printed without a traceback."""
