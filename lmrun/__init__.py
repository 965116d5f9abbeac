"""lmrun: deploy open LLMs reproducibly."""

__version__ = "0.1.0"
