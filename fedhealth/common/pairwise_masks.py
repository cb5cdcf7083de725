"""Pairwise masks modulo 2^64: each hospital's numbers look random, and the masks of all hospitals together cancel.

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), HMAC-SHA256 (RFC 2104) and AES-256 in counter mode (NIST SP 800-38A, section 6.5)
come from the package `cryptography`. Masks that cancel in pairs: Bonawitz et al. 2017, "Practical secure aggregation",
section 4; here the roster is fixed and every hospital is expected in every sum, so no shares of keys are needed.
"""

import hashlib
import hmac
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

Words = NDArray[np.uint64]
SECRET_BYTES = 32
BLOCK_WORDS = 2**17
"""Words that are masked at once: 1 MiB, so that a mask takes no memory beside a large model."""


def join_parts(*parts: bytes) -> bytes:
    """The parts with their lengths before them, so that no other parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the joined parts."""
    return hashlib.sha256(join_parts(*parts)).digest()


def derive_secret(private: X25519PrivateKey, public: bytes, roster: bytes, names: tuple[str, str]) -> bytes:
    """The secret of two hospitals, the same at both: HKDF-SHA256 of their X25519 secret.

    Parameters
    ----------
    public : the other hospital's public key (32 bytes).
    roster : the digest of the roster.
    names : of both hospitals, in order.

    Raises
    ------
    ValueError
        The public key is no point of the curve that gives a secret.
    """
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    info = join_parts(b"pair", *(name.encode() for name in names))
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=roster, info=info).derive(shared)


def mask(words: Words, own: str, secrets: Mapping[str, bytes], context: bytes) -> Words:
    """The words (n,) plus the pads shared with later hospitals, minus those shared with earlier ones, modulo 2^64.

    Parameters
    ----------
    own : this hospital's name.
    secrets : other hospital -> the secret shared with it.
    context : what this sum is about; the pads of another context are unrelated.
    """
    pads = [(name > own, _keystream(secret, context)) for name, secret in sorted(secrets.items())]
    masked = words.copy()
    for start in range(0, len(masked), BLOCK_WORDS):
        block = masked[start : start + BLOCK_WORDS]
        zeros = bytes(block.nbytes)
        for is_added, pad in pads:
            numbers = np.frombuffer(pad.update(zeros), dtype="<u8")
            if is_added:
                block += numbers
            else:
                block -= numbers
    return masked


def _keystream(secret: bytes, context: bytes) -> CipherContext:
    key = hmac.digest(secret, context, "sha256")
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
