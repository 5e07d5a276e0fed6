"""What a person can be told when the machine does not play along."""


class ProblemError(Exception):
    """One sentence for the person at the terminal, who can act on it; printed without a traceback."""
