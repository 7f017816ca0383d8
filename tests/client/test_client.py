import pytest

from medsam.client.client import Client
from medsam.errors import InputError


def test_a_person_and_a_program_are_known(live):
    with Client(live.url, user="ada", password="pw of ada") as person, Client(live.url, live.tokens["ada"]) as program:
        assert person.me["name"] == program.me["name"] == "ada"
        assert (person.me["way"], program.me["way"]) == ("login", "token")
        assert repr(person) == f"Client({live.url!r})"


def test_who_is_not_known_is_told_so(live):
    with pytest.raises(InputError, match="wrong") as raised:
        Client(live.url, user="ada", password="pw of ben")
    assert raised.value.parameters == ("token", "password")
    assert "pw of ben" not in str(raised.value)
    for nobody in (Client, lambda url: Client(url, "made-up")):
        with pytest.raises(InputError, match=live.url):
            nobody(live.url)
