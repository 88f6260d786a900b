"""A throw-away service account, to sign URLs offline."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def account_of(key: rsa.RSAPrivateKey) -> dict[str, str]:
    """A service account's key file, as Google's library reads it."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "signer@p.iam.example",
        "token_uri": "https://oauth2.example.invalid/token",
    }


def throw_away_account() -> dict[str, str]:
    return account_of(rsa.generate_private_key(public_exponent=65537, key_size=2048))
