"""TLS on the port: certificates on both sides, or nothing."""

import ssl
import time

import pytest
from certificates import authority
from dicom_files import dataset, slices
from senders import association, send

from medsam.errors import InputError
from medsam.pacs.listen.config import ListenSettings
from medsam.pacs.settings import Certificates, Dimse, Server
from medsam.pacs.tls import client_context


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    return authority(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def settings(trusted, tmp_path_factory):
    cert, key = trusted.issue("receiver")
    return ListenSettings(tmp_path_factory.mktemp("listen"), ca=trusted.ca, cert=cert, key=key)


def client(ca, pair=None) -> tuple[ssl.SSLContext, str]:
    context = ssl.create_default_context(cafile=ca)
    if pair is not None:
        context.load_cert_chain(*pair)
    return context, "localhost"


def test_with_a_certificate_of_the_authority_images_come_in(serve, settings, trusted):
    found = serve(tls=settings.tls())
    images = [dataset(pixels) for pixels in slices(3, 200, 200)]
    assert send(found.port, images, tls=client(trusted.ca, trusted.issue("ct1"))) == [0, 0, 0]


def test_others_do_not_get_in(serve, settings, trusted, tmp_path):
    found = serve(tls=settings.tls(), timeout_s=1.0)
    stranger = authority(tmp_path, "stranger")
    for tls in (None, client(trusted.ca), client(trusted.ca, stranger.issue("ct1"))):
        with association(found.port, tls=tls) as peer:
            assert not peer.is_established
    assert set(found.refused) == {"its TLS handshake failed"}
    # nor does a title help whoever shows the right certificate
    with association(found.port, calling="STRANGER", tls=client(trusted.ca, trusted.issue("ct1"))) as peer:
        assert peer.is_rejected


def test_old_protocols_are_not_spoken(settings):
    context = settings.tls()
    assert (context.minimum_version, context.verify_mode) == (ssl.TLSVersion.TLSv1_2, ssl.CERT_REQUIRED)


def test_a_peer_that_says_nothing_holds_nobody_up(serve, peer, settings, trusted):
    found = serve(tls=settings.tls(), timeout_s=0.8)
    silent = [peer(found.port) for _ in range(3)]
    began = time.monotonic()
    assert send(found.port, [dataset(slices(1)[0])], tls=client(trusted.ca, trusted.issue("ct1"))) == [0]
    assert time.monotonic() - began < 2.4, "they were waited for, one after the other"
    assert all(one.is_dropped(5) for one in silent)


def test_our_own_client_talks_to_it(serve, settings, trusted):
    from medsam.pacs.client import echo

    found = serve(tls=settings.tls(), calling=("CT1",))
    cert, key = trusted.issue("ours")
    server = Server(
        "receiver",
        dimse=Dimse("localhost", found.port, "MEDSAM", "CT1", tls=True),
        certificates=Certificates(trusted.ca, cert, key),
    )
    assert client_context(server).verify_mode == ssl.CERT_REQUIRED
    assert echo(server) > 0


def test_files_that_are_no_certificates_are_said(tmp_path, trusted):
    cert, _ = trusted.issue("one")
    _, key = trusted.issue("two")
    with pytest.raises(InputError, match="`cert`, `key` and `ca`"):
        ListenSettings(tmp_path, ca=trusted.ca, cert=cert, key=key).tls()
