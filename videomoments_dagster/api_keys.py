"""API keys themselves: how one is made, what is kept of it, and what its scope allows. No rows, no HTTP."""

import hashlib
import re
import secrets
from typing import Literal

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""Each includes those before it."""

IDENTIFIER = r"^[0-9a-f]{12}$"
LONGEST_NAME = 100
OPERATOR = "operator"
"""Stands for the key that lies in the data directory: it has no row."""
KEY = re.compile(r"vm_[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """A key nobody can guess: 32 random bytes. The prefix lets scanners for leaked secrets know it."""
    return f"vm_{secrets.token_urlsafe(32)}"


def new_identifier() -> str:
    """What a key is called when it is listed and revoked: nothing secret."""
    return secrets.token_hex(6)


def hash_of(key: str) -> str:
    """SHA-256 in hex. No slow hash is needed for what is random to begin with."""
    return hashlib.sha256(key.encode()).hexdigest()


def includes(held: str, needed: Scope) -> bool:
    """Whether a key of scope `held` may do what needs `needed`."""
    return held in SCOPES and SCOPES.index(held) >= SCOPES.index(needed)
