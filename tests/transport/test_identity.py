"""Folders of certificates: how they are created, what is kept if that fails, and the errors for a bad one."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedhealth.cli.commands.certificates import main
from fedhealth.common.errors import UsageError
from fedhealth.transport.tls import authority
from fedhealth.transport.tls.authority import Issued, issue_certificates
from fedhealth.transport.tls.identity import load_identity

FILES = {"ca.pem", "cert.pem", "key.pem"}


def issue(out: Path, *hospitals: str, days: float = 365, ca_days: float = 3650, force: bool = False) -> list[Issued]:
    return issue_certificates(out, hospitals, ("localhost", "127.0.0.1"), days=days, ca_days=ca_days, force=force)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that no test changes."""
    out = tmp_path_factory.mktemp("made") / "certs"
    issue(out, "cleveland", "va")
    return out


@pytest.fixture
def certs(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "certs"))


@pytest.fixture
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load_cert(folder: Path, name: str = "cert.pem") -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / name).read_bytes())


# --- making ------------------------------------------------------------------------------------------------------------


def test_each_party_gets_a_folder_and_only_the_ca_holds_the_cas_key(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {"ca", "server", "cleveland", "va"}
    assert {path.name for path in (made / "ca").iterdir()} == {"ca.pem", "ca.key"}
    for party in ("server", "cleveland", "va"):
        assert {path.name for path in (made / party).iterdir()} == FILES
        assert (made / party / "ca.pem").read_bytes() == (made / "ca" / "ca.pem").read_bytes()


@pytest.mark.usefixtures("generous_umask")
def test_no_key_is_readable_by_others_at_any_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first_modes, sync = [], os.fsync

    def look(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        first_modes.append((path.name, mode(path), mode(path.parent)))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    issue(tmp_path / "certs", "va")
    assert Counter(name for name, *_ in first_modes) == {"ca.key": 1, "key.pem": 2, "cert.pem": 2, "ca.pem": 3}
    for name, file_mode, folder_mode in first_modes:
        assert (file_mode, folder_mode) == (0o600 if "key" in name else 0o644, 0o700)
    assert all(mode(folder) == 0o700 for folder in (tmp_path / "certs", *(tmp_path / "certs").iterdir()))
    assert mode(tmp_path / "certs" / "va" / "key.pem") == mode(tmp_path / "certs" / "ca" / "ca.key") == 0o600


def test_certificates_follow_rfc_5280(made: Path) -> None:
    ca, server, hospital = load_cert(made / "ca", "ca.pem"), load_cert(made / "server"), load_cert(made / "va")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    for leaf, purpose in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (hospital, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        leaf.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["localhost", "127.0.0.1"]
    assert len({ca.serial_number, server.serial_number, hospital.serial_number}) == 3


def test_what_is_there_stays_and_hospitals_are_added_under_the_same_ca(certs: Path) -> None:
    before = contents(certs)
    ca, server, va, hungary = issue(certs, "va", "hungary")
    assert [issued.made for issued in (ca, server, va, hungary)] == [False, False, False, True]
    assert contents(certs).items() >= before.items()
    load_cert(certs / "hungary").verify_directly_issued_by(load_cert(certs / "ca", "ca.pem"))
    assert load_identity(certs / "hungary").name == "hungary"


def changed_parties(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    assert before.keys() == after.keys()
    return {name.partition("/")[0] for name in before if before[name] != after[name]}


def names_in(out: Path) -> list[str]:
    names = load_cert(out / "server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


@pytest.mark.parametrize(
    ("argv", "replaced"),
    [
        (["--hospitals", "va"], {"va"}),
        (["--server"], {"server"}),
        (["--server", "--hospitals", "va"], {"server", "va"}),
        (["--server-names", "localhost", "127.0.0.1"], {"server"}),
    ],
)
def test_force_replaces_what_is_named_and_nothing_else(certs: Path, argv: list[str], replaced: set[str]) -> None:
    before = contents(certs)
    assert main(["--out", str(certs), *argv, "--force"]) == 0
    assert changed_parties(before, contents(certs)) == replaced
    assert names_in(certs) == ["localhost", "127.0.0.1"]
    assert load_identity(certs / "va").name == "va"


def test_a_replaced_server_certificate_keeps_its_names(tmp_path: Path) -> None:
    out = str(tmp_path / "certs")
    assert main(["--out", out, "--hospitals", "a", "b", "--server-names", "fed.example.org", "10.0.0.7"]) == 0
    assert main(["--out", out, "--hospitals", "b", "--force"]) == 0
    assert names_in(tmp_path / "certs") == ["fed.example.org", "10.0.0.7"]
    assert main(["--out", out, "--server", "--force"]) == 0
    assert names_in(tmp_path / "certs") == ["fed.example.org", "10.0.0.7"]


def test_names_that_a_kept_certificate_lacks_are_warned_of(certs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--out", str(certs), "--hospitals", "va", "--server-names"]
    assert main([*argv, "LOCALHOST", "127.0.0.1"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*argv, "localhost", "fed.example.org", "::1"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {certs / 'server'}: the kept certificate lacks fed.example.org ::1; replace it with "
        "--force --server-names localhost 127.0.0.1 fed.example.org ::1\n"
    )


def test_names_that_a_new_certificate_no_longer_has_are_warned_of(
    certs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(certs), "--server-names", "localhost", "fed.example.org", "--force"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {certs / 'server'}: the new certificate lacks 127.0.0.1, which the old one had\n"
    )


def test_a_server_folder_without_a_certificate_is_replaced_only_with_names(
    certs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (certs / "server" / "cert.pem").write_bytes(b"")
    assert main(["--out", str(certs), "--server", "--force"]) == 2
    assert "contains no certificate with the server's names; give them with --server-names" in capsys.readouterr().err
    assert main(["--out", str(certs), "--server-names", "fed.example.org", "--force"]) == 0
    assert names_in(certs) == ["fed.example.org"]


def test_a_replaced_folder_keeps_the_other_files_in_it(certs: Path) -> None:
    (certs / "va" / "supernode.key").write_bytes(b"a key")
    (certs / "va" / "supernode.key").chmod(0o600)
    issue(certs, "va", force=True)
    assert (certs / "va" / "supernode.key").read_bytes() == b"a key"
    assert mode(certs / "va" / "supernode.key") == 0o600


def test_the_list_shows_subjects_names_and_days_left(certs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue(certs, "hungary", days=12.5)
    before = contents(certs)
    assert main(["--list", "--out", str(certs)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [Path(line[0]).name for line in lines] == ["folder", "ca", "server", "cleveland", "hungary", "va"]
    assert lines[2][1:4] == ["localhost", "localhost", "127.0.0.1"]
    assert (lines[4][1], lines[4][-1]) == ("hungary", "12")
    assert (lines[5][1], lines[5][-1]) == ("va", "364")
    assert contents(certs) == before


def test_the_list_names_a_certificate_that_has_expired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    issue(tmp_path / "certs", "va", days=-0.01)
    assert main(["--list", "--out", str(tmp_path / "certs")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("expired")


def test_the_list_of_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: contains no certificates; give the folder with --out, or make them with --hospitals\n"
    )


@pytest.mark.parametrize("flags", [["--hospitals", "va"], ["--force"], ["--server"], ["--server-names", "x"]])
def test_the_list_makes_nothing(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", *flags, "--out", str(tmp_path / "certs")]) == 2
    assert f"--list makes nothing; leave {flags[0]} out" in capsys.readouterr().err
    assert not (tmp_path / "certs").exists()


def test_somebody_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--force", "--out", str(tmp_path / "certs")]) == 2
    assert "--hospitals is empty" in capsys.readouterr().err


@pytest.mark.parametrize("broken_rename", [1, 2])
def test_with_force_nothing_is_lost_when_a_rename_fails(
    certs: Path, monkeypatch: pytest.MonkeyPatch, broken_rename: int
) -> None:
    before, renames, rename = contents(certs), [], Path.rename

    def fail_once(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) == broken_rename:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(UsageError, match=r"cannot be written \(Input/output error\); give another folder with --out"):
        issue(certs, "va", force=True)
    assert contents(certs) == before
    assert {path.name for path in certs.iterdir()} == {"ca", "server", "cleveland", "va"}


@pytest.mark.parametrize("name", ["server", "ca", "CA", "Server"])
def test_the_folders_of_the_other_two_parties_are_no_names_of_hospitals(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--hospitals", "va", name, "--out", str(tmp_path / "certs")]) == 2
    assert capsys.readouterr().err == (
        f"error: --hospitals is {name!r}; give another name: ca and server are the folders of the other two parties\n"
    )
    assert not (tmp_path / "certs").exists()


def test_when_even_the_way_back_fails_the_old_key_is_still_on_the_disk(
    certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, rename, renames = (certs / "server" / "key.pem").read_bytes(), Path.rename, []

    def fail_from_the_second_on(path: Path, target: Path) -> Path:
        renames.append(path)
        if len(renames) >= 2:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_from_the_second_on)
    with pytest.raises(UsageError, match="cannot be written"):
        issue(certs, "va", force=True)
    assert key in contents(certs).values()


def test_a_ca_that_another_run_made_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_pem = authority._key_pem

    def be_overtaken(key: ec.EllipticCurvePrivateKey) -> bytes:
        monkeypatch.setattr(authority, "_key_pem", key_pem)
        issue(tmp_path / "certs", "hungary")
        return key_pem(key)

    monkeypatch.setattr(authority, "_key_pem", be_overtaken)
    with pytest.raises(UsageError, match="cannot be written"):
        issue(tmp_path / "certs", "va")
    assert {path.name for path in (tmp_path / "certs").iterdir()} == {"ca", "server", "hungary"}
    issue(tmp_path / "certs", "va")
    load_cert(tmp_path / "certs" / "hungary").verify_directly_issued_by(load_cert(tmp_path / "certs" / "va", "ca.pem"))


def test_certificates_do_not_outlive_their_ca(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--days is 365, but the CA itself expires on .* UTC; give fewer"):
        issue(tmp_path / "certs", "va", ca_days=30)


def test_a_ca_with_another_key_is_refused(certs: Path) -> None:
    shutil.copy(certs / "va" / "key.pem", certs / "ca" / "ca.key")
    with pytest.raises(UsageError, match=r"ca: ca\.key does not belong to ca\.pem"):
        issue(certs, "hungary")


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 50]
)
def test_a_damaged_ca_is_refused_and_left_as_it_is(certs: Path, content: bytes) -> None:
    (certs / "ca" / "ca.pem").write_bytes(content)
    with pytest.raises(UsageError, match="ca: is not a CA made by this command; give another folder with --out"):
        issue(certs, "hungary")
    assert (certs / "ca" / "ca.pem").read_bytes() == content


def test_a_folder_of_another_ca_is_refused(certs: Path, tmp_path: Path) -> None:
    issue(tmp_path / "others", "hungary")
    shutil.copytree(tmp_path / "others" / "hungary", certs / "hungary")
    with pytest.raises(
        UsageError, match=r"signed by another CA than .*ca; replace it with --hospitals 'hungary' --force"
    ):
        issue(certs, "hungary")


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match=r"certs: cannot be written \(.*\); give another folder with --out"):
        issue(tmp_path / "file" / "certs", "va")


def test_a_name_that_no_certificate_can_hold_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes 80 bytes; the maximum is 64 .*; give a shorter one"):
        issue(tmp_path / "certs", "ü" * 40)
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize(
    "name", ["", " ", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 65, "CA", "server", "a:b", "what?", " va"]
)
def test_a_name_that_names_no_folder_is_one_line_and_nothing_is_made(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "certs"), "--hospitals", name]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: --hospitals is ")
    assert complaint.count("\n") == 1
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fed.example.org:8443", "host names or addresses, without port or brackets"),
        ("fed_server", "a host name of letters, digits, - and . (an underscore is not valid in one), or an address"),
    ],
)
def test_a_server_name_that_no_host_can_have_is_one_line(
    name: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "certs"), "--hospitals", "va", "--server-names", name]) == 2
    assert capsys.readouterr().err == f"error: --server-names is '{name}'; give {expected}\n"
    assert not (tmp_path / "certs").exists()


def test_the_command_says_what_goes_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "certs"
    argv = ["--out", str(out), "--hospitals", "Zürich 病院", "--server-names", "fed.example.org", "::1"]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert f"{out / 'server'}: made for fed.example.org, ::1, valid until " in first
    assert f"copy {out / 'Zürich 病院'} to Zürich 病院:  python client.py FILE --name 'Zürich 病院'" in first
    assert "do not copy it" in first
    assert main(argv) == 0
    second = capsys.readouterr().out
    assert "made for" not in second
    assert second.count("kept (") == 2
    assert load_identity(out / "Zürich 病院").name == "Zürich 病院"


# --- reading -----------------------------------------------------------------------------------------------------------


def test_an_identity_is_what_its_folder_says(made: Path) -> None:
    identity = load_identity(made / "va")
    assert (identity.name, identity.purposes, identity.warnings) == ("va", {"client"}, ())
    assert timedelta(days=364) < identity.not_after - datetime.now(UTC) < timedelta(days=365)
    assert load_identity(made / "server").purposes == {"server"}
    assert identity.key.decode() not in repr(identity)


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder of certificates; make it with"):
        load_identity(tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(certs: Path, name: str) -> None:
    (certs / "va" / name).unlink()
    with pytest.raises(UsageError, match=f"va/{name}: is missing; a folder of certificates contains ca.pem"):
        load_identity(certs / "va")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_is_a_folder_is_named(certs: Path, name: str) -> None:
    (certs / "va" / name).unlink()
    (certs / "va" / name).mkdir()
    with pytest.raises(UsageError, match=rf"va/{name}: cannot be read \(Is a directory\)"):
        load_identity(certs / "va")


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("spoil", [lambda pem: b"", lambda pem: pem[: len(pem) // 2], lambda pem: b"\x00\xff" * 100])
def test_a_garbled_file_is_named(certs: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    path = certs / "va" / name
    path.write_bytes(spoil(path.read_bytes()))
    what = "private key" if name == "key.pem" else "certificate"
    with pytest.raises(UsageError, match=rf"va/{name}: contains no {what} in PEM format \(-----BEGIN") as caught:
        load_identity(certs / "va")
    assert "\n" not in str(caught.value)


def test_garbled_base64_inside_a_pem_is_named(certs: Path) -> None:
    path = certs / "va" / "cert.pem"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "A" * 64, *lines[2:]]))
    with pytest.raises(UsageError, match=r"va/cert.pem: contains no certificate in PEM format"):
        load_identity(certs / "va")


def test_the_key_of_another_certificate_is_refused(certs: Path) -> None:
    shutil.copy(certs / "cleveland" / "key.pem", certs / "va" / "key.pem")
    with pytest.raises(UsageError, match=r"va/key.pem: does not belong to .*va/cert.pem; copy both from one place"):
        load_identity(certs / "va")


def test_an_encrypted_key_is_refused(certs: Path) -> None:
    path = certs / "va" / "key.pem"
    key = load_pem_private_key(path.read_bytes(), password=None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(UsageError, match=r"va/key.pem: is encrypted with a password; store it unencrypted"):
        load_identity(certs / "va")


def test_another_ca_is_refused(certs: Path, tmp_path: Path) -> None:
    issue(tmp_path / "others", "va")
    shutil.copy(tmp_path / "others" / "va" / "ca.pem", certs / "va" / "ca.pem")
    with pytest.raises(UsageError, match=r"va/cert.pem: is not signed by the CA of .*va/ca.pem; copy both"):
        load_identity(certs / "va")


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    issue(tmp_path / "certs", "va", days=-0.01)
    with pytest.raises(UsageError, match=r"va/cert.pem: expired on 20.* UTC; ask the coordinator for a new one"):
        load_identity(tmp_path / "certs" / "va")


def test_a_certificate_of_tomorrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "CLOCK_SLACK", timedelta(days=-1))
    issue(tmp_path / "certs", "va")
    with pytest.raises(UsageError, match=r"va/cert.pem: is not valid before 20.*; is this computer's clock right"):
        load_identity(tmp_path / "certs" / "va")


def test_an_expired_ca_is_refused(certs: Path) -> None:
    ca = authority._load_authority(certs / "ca")
    name, public = ca.certificate.subject, ca.key.public_key()
    old = authority._builder(name, name, public, public, datetime.now(UTC) - timedelta(minutes=5))
    (certs / "va" / "ca.pem").write_bytes(authority._pem(old.sign(ca.key, hashes.SHA256())))
    with pytest.raises(UsageError, match=r"va/ca.pem: expired on"):
        load_identity(certs / "va")


def test_an_old_ca_may_stand_beside_the_new_one(certs: Path, tmp_path: Path) -> None:
    issue(tmp_path / "others", "va")
    ours, others = (certs / "va" / "ca.pem").read_bytes(), (tmp_path / "others" / "va" / "ca.pem").read_bytes()
    (certs / "va" / "ca.pem").write_bytes(others + ours)
    assert load_identity(certs / "va").name == "va"


def test_certificates_between_ours_and_the_ca_may_come_in_any_order(tmp_path: Path) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("root", "upper", "lower", "va")]
    until = datetime.now(UTC) + timedelta(days=100)
    root, upper, lower, leaf = (
        authority._builder(names[i], names[max(i - 1, 0)], keys[i].public_key(), keys[max(i - 1, 0)].public_key(), until)
        .sign(keys[max(i - 1, 0)], hashes.SHA256())
        for i in range(4)
    )  # fmt: skip
    (tmp_path / "ca.pem").write_bytes(authority._pem(root))
    (tmp_path / "key.pem").write_bytes(authority._key_pem(keys[3]))
    for chain in ([leaf, lower, upper], [leaf, upper, lower]):
        (tmp_path / "cert.pem").write_bytes(b"".join(map(authority._pem, chain)))
        identity = load_identity(tmp_path)
        assert (identity.name, identity.purposes) == ("va", {"client", "server"})
    (tmp_path / "cert.pem").write_bytes(authority._pem(leaf) + authority._pem(lower))
    with pytest.raises(UsageError, match="is not signed by the CA"):
        load_identity(tmp_path)


@pytest.mark.parametrize("common_names", [(), ("va", "cleveland"), (" ",)])
def test_a_certificate_names_exactly_one_hospital(certs: Path, common_names: tuple[str, ...]) -> None:
    ca = authority._load_authority(certs / "ca")
    key = load_pem_private_key((certs / "va" / "key.pem").read_bytes(), password=None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    until = datetime.now(UTC) + timedelta(days=100)
    builder = authority._builder(subject, ca.certificate.subject, key.public_key(), ca.key.public_key(), until)
    (certs / "va" / "cert.pem").write_bytes(authority._pem(builder.sign(ca.key, hashes.SHA256())))
    with pytest.raises(UsageError, match=r"va/cert.pem: its subject must have exactly one common name"):
        load_identity(certs / "va")


def test_a_key_that_others_can_read_is_warned_of(certs: Path) -> None:
    (certs / "va" / "key.pem").chmod(0o640)
    (warning,) = load_identity(certs / "va").warnings
    assert "other users of this computer can read this private key; run chmod 600" in warning


def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path) -> None:
    issue(tmp_path / "certs", "va", days=29)
    (warning,) = load_identity(tmp_path / "certs" / "va").warnings
    assert "expires on 20" in warning
    assert warning.endswith(" UTC, in 28 days; ask the coordinator for a new one")
    issue(tmp_path / "others", "va", days=30.5)
    assert load_identity(tmp_path / "others" / "va").warnings == ()


def test_a_folder_is_good_for_one_purpose(made: Path) -> None:
    hospital, server = load_identity(made / "va"), load_identity(made / "server")
    hospital.require_usable("client")
    server.require_usable("server")
    with pytest.raises(
        UsageError, match=r"va/cert.pem: is a client certificate; give a folder with a server certificate"
    ):
        hospital.require_usable("server")
    with pytest.raises(
        UsageError, match=r"server/cert.pem: is a server certificate; give a folder with a client certificate"
    ):
        server.require_usable("client")


def test_a_certificate_that_ended_since_it_was_read_is_refused(made: Path) -> None:
    identity = replace(load_identity(made / "va"), not_after=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(UsageError, match="expired on"):
        identity.require_usable("client")
