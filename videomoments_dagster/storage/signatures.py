"""Signed URLs of the directory store: HMAC-SHA256 over method, name and expiry; GCS signs its own. And since when the
URLs of both are good, so that the same one is given for a while."""

import hashlib
import hmac
import time


def issued_at(life_seconds: int) -> int:
    """The epoch second from which a URL of that life counts: the beginning of the half life that runs now. Asked again
    within it, by whichever process, the URL is the same, which caches and ETags need; half its life or more is left."""
    now = int(time.time())
    return now - now % max(1, life_seconds // 2)


def sign(key: bytes, method: str, name: str, expires: int) -> str:
    """The signature, in hex, that lets anyone use `method` on `name` until `expires` (epoch seconds)."""
    return hmac.new(key, f"{_family(method)}\n{name}\n{expires}".encode(), hashlib.sha256).hexdigest()


def verify(key: bytes, method: str, name: str, expires: int, signature: str) -> bool:
    """Whether `signature` is ours, for this method and name, and not expired. A GET signature allows HEAD too."""
    ours = sign(key, method, name, expires)
    return hmac.compare_digest(ours.encode(), signature.encode(errors="replace")) and time.time() < expires


def _family(method: str) -> str:
    return "GET" if method == "HEAD" else method
