"""Stored secrets: readable with the key alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from apps.core.encryption import SecretUnreadable, secret_decrypt, secret_encrypt


@given(st.text())
def test_what_was_encrypted_comes_back_and_shows_nothing(plain: str) -> None:
    stored = secret_encrypt(plain)
    assert secret_decrypt(stored, what="the key") == plain
    assert len(plain) < 4 or plain not in stored
    assert secret_encrypt(plain) != stored


def test_a_key_can_be_replaced(settings: Settings) -> None:
    settings.ARCHON_ENCRYPTION_KEYS = ["the old key"]
    stored = secret_encrypt("hush")
    settings.ARCHON_ENCRYPTION_KEYS = ["the new key", "the old key"]
    assert secret_decrypt(stored, what="it") == "hush"
    again = secret_encrypt("hush")
    settings.ARCHON_ENCRYPTION_KEYS = ["the new key"]
    assert secret_decrypt(again, what="it") == "hush"
    with pytest.raises(SecretUnreadable, match="it cannot be decrypted"):
        secret_decrypt(stored, what="it")


@pytest.mark.parametrize("stored", ["", "nonsense", "gAAAAA==", "ü"])
def test_what_was_not_encrypted_here_is_refused(stored: str) -> None:
    with pytest.raises(SecretUnreadable):
        secret_decrypt(stored, what="it")
