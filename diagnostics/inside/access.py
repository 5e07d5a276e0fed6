"""What a question from inside may use."""

from dataclasses import dataclass


@dataclass
class Inside:
    """How the stack is reached from behind its proxy."""
