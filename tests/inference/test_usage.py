from medsam.inference.usage import Usage


def test_usages_add_up():
    parts = [Usage(encoded=1, embed_s=0.5), Usage(decoded=3, decode_s=0.25), Usage(1, 2, 4.0, 0.5, 0.25)]
    total = sum(parts, Usage())
    assert total == Usage(encoded=2, decoded=5, prepare_s=4.0, embed_s=1.0, decode_s=0.5)
    assert total.seconds == {"prepare": 4.0, "embed": 1.0, "decode": 0.5}


def test_nothing_costs_nothing():
    assert sum([], Usage()) == Usage()
