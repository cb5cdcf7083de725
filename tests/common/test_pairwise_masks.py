"""The primitives by published vectors; the masks: they cancel, and whatever they hide looks random."""

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from fedhealth.common.pairwise_masks import BLOCK_WORDS, derive_secret, digest, join_parts, mask
from tests.support.masked_roster import deterministic_secrets, names_of

RFC_7748_PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
RFC_7748_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
RFC_7748_OTHER_PRIVATE = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
RFC_7748_OTHER_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
RFC_7748_SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
RFC_4231 = (
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
)
F_5_5_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
F_5_5_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
F_5_5_PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
F_5_5_CIPHER = bytes.fromhex(
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def expand(shared: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 by its two formulas, for 32 bytes: T(1) = HMAC(PRK, info | 0x01)."""
    return hmac.digest(hmac.digest(salt, shared, "sha256"), info + b"\x01", "sha256")


def count_blocks(key: bytes, first: int, blocks: int) -> bytes:
    """Counter mode by its definition: the encrypted counters, one block each."""
    counters = b"".join((first + number).to_bytes(16, "big") for number in range(blocks))
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counters)  # of counters


# --- published vectors ------------------------------------------------------------------------------------------------


def test_x25519_gives_the_keys_and_the_secret_of_rfc_7748() -> None:
    own = X25519PrivateKey.from_private_bytes(RFC_7748_PRIVATE)
    other = X25519PrivateKey.from_private_bytes(RFC_7748_OTHER_PRIVATE)
    assert own.public_key().public_bytes_raw() == RFC_7748_PUBLIC
    assert other.public_key().public_bytes_raw() == RFC_7748_OTHER_PUBLIC
    assert own.exchange(other.public_key()) == RFC_7748_SHARED


def test_hkdf_gives_the_key_of_rfc_5869() -> None:
    salt, info = bytes.fromhex("000102030405060708090a0b0c"), bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    made = HKDF(algorithm=SHA256(), length=42, salt=salt, info=info).derive(b"\x0b" * 22)
    assert made.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
    assert expand(b"\x0b" * 22, salt, info) == made[:32]


def test_both_hospitals_derive_the_same_secret_from_the_published_keys() -> None:
    roster, names = b"R" * 32, ("cleveland", "va")
    expected = expand(RFC_7748_SHARED, roster, join_parts(b"pair", b"cleveland", b"va"))
    first = derive_secret(X25519PrivateKey.from_private_bytes(RFC_7748_PRIVATE), RFC_7748_OTHER_PUBLIC, roster, names)
    second = derive_secret(X25519PrivateKey.from_private_bytes(RFC_7748_OTHER_PRIVATE), RFC_7748_PUBLIC, roster, names)
    assert first == second == expected


@pytest.mark.parametrize(
    "other", [{"roster": b"S" * 32}, {"names": ("cleveland", "vb")}, {"names": ("va", "cleveland")}]
)
def test_another_roster_or_pair_has_another_secret(other: dict[str, object]) -> None:
    private = X25519PrivateKey.from_private_bytes(RFC_7748_PRIVATE)
    usual: dict[str, object] = {"roster": b"R" * 32, "names": ("cleveland", "va")}
    made = [derive_secret(private, RFC_7748_OTHER_PUBLIC, **each) for each in (usual, {**usual, **other})]  # type: ignore[arg-type]
    assert made[0] != made[1]


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31)])
def test_a_public_key_that_gives_no_secret_is_refused(public: bytes) -> None:
    """0 and 1 have a small order, so that the secret would be 0 whatever the private key is."""
    with pytest.raises(ValueError):  # the library's words
        derive_secret(X25519PrivateKey.from_private_bytes(RFC_7748_PRIVATE), public, b"R" * 32, ("a", "b"))


def test_counter_mode_gives_the_ciphertext_of_nist_sp_800_38a() -> None:
    encryptor = Cipher(algorithms.AES(F_5_5_KEY), modes.CTR(F_5_5_COUNTER)).encryptor()
    assert encryptor.update(F_5_5_PLAIN) == F_5_5_CIPHER
    keystream = count_blocks(F_5_5_KEY, int.from_bytes(F_5_5_COUNTER, "big"), 4)
    assert bytes(a ^ b for a, b in zip(F_5_5_PLAIN, keystream, strict=True)) == F_5_5_CIPHER


@pytest.mark.parametrize(("secret", "context", "key"), RFC_4231)
def test_a_pad_is_counter_mode_from_0_under_the_published_hmac_of_the_context(
    secret: bytes, context: bytes, key: str
) -> None:
    pad = np.frombuffer(count_blocks(bytes.fromhex(key), 0, 5), "<u8")
    zeros = np.zeros(10, np.uint64)
    np.testing.assert_array_equal(mask(zeros, "a", {"b": secret}, context), pad)
    np.testing.assert_array_equal(mask(zeros, "c", {"b": secret}, context), -pad)


# --- masks ------------------------------------------------------------------------------------------------------------


@given(
    hospitals=st.one_of(st.integers(3, 12), st.sampled_from([50, 100])),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_sum_of_masked_vectors_is_that_in_the_clear_in_any_order(hospitals: int, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    names = names_of(hospitals)
    clear = generator.integers(0, 2**64, (hospitals, size), np.uint64, endpoint=False)
    masked = [
        mask(words, name, deterministic_secrets(name, names), b"context")
        for name, words in zip(names, clear, strict=True)
    ]
    total = np.zeros(size, np.uint64)
    for place in generator.permutation(hospitals):
        total += masked[place]
    np.testing.assert_array_equal(total, clear.sum(axis=0, dtype=np.uint64))


def test_a_vector_of_several_blocks_has_one_pad_from_end_to_end() -> None:
    zeros = np.zeros(2 * BLOCK_WORDS + 3, np.uint64)
    key = hmac.digest(b"secret", b"context", "sha256")
    expected = np.frombuffer(count_blocks(key, 0, len(zeros) // 2 + 1), "<u8")[: len(zeros)]
    np.testing.assert_array_equal(mask(zeros, "a", {"b": b"secret"}, b"context"), expected)


def test_masking_does_not_change_the_hospitals_own_words() -> None:
    words = np.arange(5, dtype=np.uint64)
    mask(words, "a", {"b": b"secret"}, b"context")
    assert words.tolist() == [0, 1, 2, 3, 4]


def test_one_masked_vector_looks_uniform_although_its_numbers_are_all_equal() -> None:
    names, size = names_of(4), 2**15
    masked = mask(np.full(size, 7, np.uint64), names[1], deterministic_secrets(names[1], names), b"context")
    observed = np.bincount(np.frombuffer(masked.tobytes(), np.uint8), minlength=256)
    statistic = float(np.sum((observed - size / 32) ** 2) / (size / 32))
    low, high = chi2.ppf([0.001, 0.999], 255)
    assert low < statistic < high
    bits = np.unpackbits(np.frombuffer(masked.tobytes(), np.uint8))
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(bits))


def test_the_same_numbers_under_another_context_share_no_word_with_those_before() -> None:
    names, numbers = names_of(3), np.arange(1000, dtype=np.uint64)
    secrets = deterministic_secrets(names[0], names)
    first, second = (mask(numbers, names[0], secrets, context) for context in (b"round 1", b"round 2"))
    assert not np.any(first == second)
    observed = np.bincount(np.frombuffer((first - second).tobytes(), np.uint8), minlength=256)
    assert float(np.sum((observed - 31.25) ** 2) / 31.25) < float(chi2.ppf(0.999, 255))


def test_all_but_two_colluding_hospitals_are_left_with_the_sum_of_the_two() -> None:
    """The colluders remove every pad that they share with the two; the pad between the two stays."""
    names = names_of(6)
    honest, size = names[2:4], 2**12
    generator = np.random.default_rng(0)
    clear = {name: generator.integers(0, 1000, size).astype(np.uint64) for name in names}
    left = {}
    for name in honest:
        secrets = deterministic_secrets(name, names)
        known = {other: secret for other, secret in secrets.items() if other not in honest}
        masked = mask(clear[name], name, secrets, b"context")
        left[name] = masked - mask(np.zeros(size, np.uint64), name, known, b"context")
    np.testing.assert_array_equal(left[honest[0]] + left[honest[1]], clear[honest[0]] + clear[honest[1]])
    for name in honest:
        observed = np.bincount(np.frombuffer(left[name].tobytes(), np.uint8), minlength=256)
        assert float(np.sum((observed - size / 32) ** 2) / (size / 32)) < float(chi2.ppf(0.999, 255))
        assert not np.any(left[name] == clear[name])


# --- digests ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), max_size=5), st.lists(st.binary(max_size=20), max_size=5))
def test_other_parts_never_give_the_same_bytes(first: list[bytes], second: list[bytes]) -> None:
    assert (join_parts(*first) == join_parts(*second)) == (first == second)


def test_a_digest_is_sha_256_of_the_parts_with_their_lengths() -> None:
    joined = bytes(7) + b"\x02ab" + bytes(8)
    assert digest(b"ab", b"") == hashlib.sha256(joined).digest()
    assert digest(b"a", b"b") != digest(b"ab", b"") != digest(b"", b"ab")
