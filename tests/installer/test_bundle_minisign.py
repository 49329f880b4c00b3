"""Signatures: RFC 8032's own numbers, and the tool that others verify with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from installer.bundle import ed25519, minisign, signing
from installer.bundle.minisign import PublicKey, Refused
from tests.installer.bundles import KEY, OTHER, WEAK

ORDER = 2**252 + 27742317777372353535851937790883648493
RFC8032 = [  # public key, message, signature: section 7.1, TEST 1 to 3, and SHA(abc)
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("key", "message", "signature"), RFC8032)
def test_the_vectors_of_the_rfc(key: str, message: str, signature: str) -> None:
    point, text, sign = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519.verify(point, text, sign)
    assert not ed25519.verify(point, text + b"x", sign)
    for place in range(0, 64, 5):
        changed = bytearray(sign)
        changed[place] ^= 0x10
        assert not ed25519.verify(point, text, bytes(changed))


def test_it_agrees_with_the_product_s_library() -> None:
    for n in range(20):
        key = signing.SecretKey(b"12345678", os.urandom(32))
        message = os.urandom(n * 7)
        assert minisign.verify(key.public, message, key.sign(message, "試し")) == "試し"


def test_encodings_that_a_strict_verifier_refuses() -> None:
    point, text, sign = (bytes.fromhex(part) for part in RFC8032[1])
    larger = sign[:32] + (int.from_bytes(sign[32:], "little") + ORDER).to_bytes(32, "little")
    assert not ed25519.verify(point, text, larger)  # the same number, written another way
    assert not ed25519.verify(point, text, sign[:63])
    for small in (1, 0, 2**255 - 20, 2**255 - 19, 2**255 - 18, 2**255 + 1, 2**256 - 1):
        assert not ed25519.usable(small.to_bytes(32, "little"))
    assert not ed25519.usable(b"short")


@pytest.mark.parametrize(
    "text",
    ["", "x", "RWQ", KEY.public.line + "A", KEY.public.line[:-1], "a\nb\nc", "あ", "R" * 9999,
     KEY.public.text.replace("RW", "RX", 1)],
)  # fmt: skip
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(Refused, match="公開鍵ではありません"):
        PublicKey.read(text)


def test_a_signature_fits_one_key_one_message_and_one_comment() -> None:
    text = KEY.sign(b"message", "kura 0.2.0")
    assert minisign.verify(KEY.public, b"message", text) == "kura 0.2.0"
    lines = text.splitlines()
    for wrong in (
        text.replace("kura 0.2.0", "kura 9.9.9"),
        "\n".join([*lines[:3], OTHER.sign(b"message", "kura 0.2.0").splitlines()[3], ""]),
        text.replace("trusted comment: kura", "comment: kura"),
        "\n".join(lines[:3]),
        text + "\nmore",
        lines[0] + "\n" + "RW" + lines[1][2:] + "\n" + "\n".join(lines[2:]) + "\n",
    ):
        with pytest.raises(Refused):
            minisign.verify(KEY.public, b"message", wrong)
    with pytest.raises(Refused, match="内容と合いません"):
        minisign.verify(KEY.public, b"Message", text)
    with pytest.raises(Refused, match="別の鍵"):
        minisign.verify(OTHER.public, b"message", text)


def test_a_secret_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    secret, public = tmp_path / "kura.key", tmp_path / "kura.pub"
    made = signing.create(secret, public, "正しい馬の電池とホチキス", WEAK)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert PublicKey.read(public.read_text("utf-8")) == made
    key = signing.SecretKey.read(secret.read_text("utf-8"), "正しい馬の電池とホチキス")
    assert key.public == made and "seed" not in repr(key)
    with pytest.raises(Refused, match="パスフレーズが違います"):
        signing.SecretKey.read(secret.read_text("utf-8"), "違う馬の電池とホチキス")
    with pytest.raises(Refused, match="既にあります"):
        signing.create(secret, tmp_path / "new.pub", "正しい馬の電池とホチキス", WEAK)
    with pytest.raises(Refused, match="12 文字"):
        signing.create(tmp_path / "a", tmp_path / "b", "short", WEAK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kura.key", "kura.pub"]


needs_minisign = pytest.mark.skipif(not shutil.which("minisign"), reason="Debian's minisign")


@needs_minisign
def test_minisign_verifies_what_kura_signed(tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_text(KEY.public.text)
    (tmp_path / "m").write_bytes(b"manifest")
    (tmp_path / "m.minisig").write_text(KEY.sign(b"manifest", "蔵 0.2.0"))
    command = ["minisign", "-V", "-H", "-m", tmp_path / "m", "-p", tmp_path / "k.pub"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "蔵 0.2.0" in said.stdout
    (tmp_path / "m").write_bytes(b"Manifest")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@needs_minisign
@pytest.mark.parametrize("cost", [WEAK, pytest.param(signing.SENSITIVE, marks=pytest.mark.slow)])
def test_minisign_signs_with_the_key_that_kura_made(cost: tuple[int, int], tmp_path: Path) -> None:
    signing.create(tmp_path / "k", tmp_path / "k.pub", "correct horse battery", cost)
    (tmp_path / "m").write_bytes(b"manifest")
    subprocess.run(
        ["minisign", "-S", "-H", "-s", tmp_path / "k", "-m", tmp_path / "m", "-t", "by hand"],
        input="correct horse battery\n",
        text=True,
        check=True,
        capture_output=True,
    )
    key = PublicKey.read((tmp_path / "k.pub").read_text())
    text = (tmp_path / "m.minisig").read_text()
    assert minisign.verify(key, b"manifest", text) == "by hand"


@needs_minisign
@pytest.mark.slow
def test_kura_opens_the_key_that_minisign_made(tmp_path: Path) -> None:
    subprocess.run(
        ["minisign", "-G", "-s", tmp_path / "k", "-p", tmp_path / "k.pub"],
        input="correct horse battery\ncorrect horse battery\n",
        text=True,
        check=True,
        capture_output=True,
    )
    key = signing.SecretKey.read((tmp_path / "k").read_text(), "correct horse battery")
    assert key.public == PublicKey.read((tmp_path / "k.pub").read_text())
