"""Addresses: which only this machine reaches, which nobody reaches, and what the URL of a proxy says."""

import pytest

from fedhealth.common.addresses import (
    ProxyUrl,
    is_loopback,
    is_unspecified,
    parse_proxy_url,
    split_address,
    without_credentials,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_only_this_machine_reaches_a_loopback_address(host: str) -> None:
    assert is_loopback(f"{host}:8080")
    assert not is_unspecified(f"{host}:8080")


@pytest.mark.parametrize("host", ["10.0.0.5", "127.example.org", "localhost.example.org", "[fd00::1]"])
def test_other_machines_reach_any_other_address(host: str) -> None:
    assert not is_loopback(f"{host}:8080")
    assert not is_unspecified(f"{host}:8080")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[0:0::0]"])
def test_nobody_reaches_an_address_that_stands_for_all(host: str) -> None:
    assert is_unspecified(f"{host}:8080")
    assert not is_loopback(f"{host}:8080")


def test_an_address_is_split_into_host_and_port_without_brackets() -> None:
    assert split_address("fed.example.org:8443") == ("fed.example.org", 8443)
    assert split_address("[fd00::1]:80") == ("fd00::1", 80)


@pytest.mark.parametrize(
    ("text", "parsed", "shown"),
    [
        ("http://proxy.example.org:3128", ProxyUrl("proxy.example.org", 3128), "http://proxy.example.org:3128"),
        ("HTTP://proxy.example.org:3128/", ProxyUrl("proxy.example.org", 3128), "http://proxy.example.org:3128"),
        ("http://proxy.example.org", ProxyUrl("proxy.example.org", 443), "http://proxy.example.org:443"),
        ("http://[fd00::1]:3128", ProxyUrl("fd00::1", 3128), "http://[fd00::1]:3128"),
        ("http://va:p%40ss@10.0.0.1:80", ProxyUrl("10.0.0.1", 80, "va:p@ss"), "http://10.0.0.1:80"),
        ("http://va:a@b@10.0.0.1:80", ProxyUrl("10.0.0.1", 80, "va:a@b"), "http://10.0.0.1:80"),
    ],
)
def test_the_url_of_a_proxy_is_shown_without_user_and_password(text: str, parsed: ProxyUrl, shown: str) -> None:
    assert parse_proxy_url(text) == parsed
    assert str(parsed) == shown
    assert parse_proxy_url(parsed.with_credentials()) == parsed
    assert "p@ss" not in repr(parsed)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "none", "proxy.example.org:3128", "10.0.0.1:3128", "http://", "http://:3128"),
        *("https://proxy.example.org", "socks5://10.0.0.1:1080", "http://host:70000", "http://va:secret#x@host:1"),
    ],
)
def test_what_is_no_url_of_an_http_proxy_is_an_error_that_shows_no_part_of_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not of the form http://HOST:PORT$"):
        parse_proxy_url(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://va:secret@host:1", "http://host:1"),
        ("va:secret@host:1", "host:1"),
        ("http://va:a@b/c@host", "http://host"),
        ("host:3128", "host:3128"),
        ("", ""),
    ],
)
def test_a_url_is_printed_without_what_stands_before_the_at_sign(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
