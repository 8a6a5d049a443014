from __future__ import annotations

import pika
import pytest

from hub_registry.broker.address import Address, public_address
from hub_registry.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@mq", ("mq", 5672, "/", "u", "p")),
        ("amqps://u:p@mq/", ("mq", 5671, "/", "u", "p")),
        ("amqp://u:p@mq:7/%2F", ("mq", 7, "/", "u", "p")),
        ("amqp://u%40x:p%2Fq@[::1]:7/a%2Fb", ("::1", 7, "a/b", "u@x", "p/q")),
    ],
)
def test_parts_of_a_url_are_read_as_pika_reads_them(
    url: str, expected: tuple[str, int, str, str, str]
) -> None:
    address = Address.parse(url, "broker_url")
    peer = pika.URLParameters(url)

    assert (address.host, address.port, address.vhost, address.user, address.password) == expected
    assert (peer.host, peer.port, peer.virtual_host) == expected[:3]


@pytest.mark.parametrize(
    ("user", "password", "vhost"), [("ep.1", "secret", "/"), ("a b", "p@:/?#ß", "x/y"), ("u", "%41", "%2F")]
)
def test_a_url_made_for_a_user_leads_pika_back_to_the_parts(user: str, password: str, vhost: str) -> None:
    url = Address("amqp", "mq", 7, vhost).url(user, password)
    peer = pika.URLParameters(url)

    assert (peer.virtual_host, peer.credentials.username, peer.credentials.password) == (
        vhost,
        user,
        password,
    )
    assert Address.parse(url, "broker_url").url() == url


def test_no_password_shows() -> None:
    address = Address.parse("amqp://user:topsecret@mq/v", "broker_url")

    assert "topsecret" not in f"{address} {address!r}"
    assert str(address) == "amqp://mq:5672/v"


@pytest.mark.parametrize(
    "url", ["", "mq", "http://u:topsecret@mq", "amqp://u:topsecret@", "amqp://u:topsecret@mq:port/"]
)
def test_what_is_no_url_of_a_broker_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="broker_url is no URL of a broker") as caught:
        Address.parse(url, "broker_url")

    assert "topsecret" not in str(caught.value)


def test_the_management_interface_is_beside_the_broker() -> None:
    assert Address.parse("amqp://u:p@mq:7/v", "broker_url").management_url() == "http://mq:15672"
    assert Address.parse("amqps://u:p@[::1]/v", "broker_url").management_url() == "https://[::1]:15671"


def test_others_get_the_public_address_and_the_same_vhost() -> None:
    own = Address.parse("amqp://u:p@10.0.0.1/hub", "broker_url")

    assert public_address(own, "") == own
    assert public_address(own, "amqps://mq.example.org").url("n", "s") == (
        "amqps://n:s@mq.example.org:5671/hub"
    )
    with pytest.raises(ConfigurationError, match="'other', and broker_url names 'hub'"):
        public_address(own, "amqps://mq.example.org/other")
