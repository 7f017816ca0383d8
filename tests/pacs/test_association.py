"""What pynetdicom leaves open in an association."""

from __future__ import annotations

from pynetdicom import AE
from pynetdicom.association import MODE_REQUESTOR, Association

from medsam.pacs.association import leave_answers, wake


def test_an_answer_is_taken_by_whoever_waits_for_one_and_by_nobody_else():
    association = Association(AE(), MODE_REQUESTOR)
    leave_answers(association)
    association.dimse.msg_queue.put((1, "answer"))
    # as pynetdicom's own thread asks
    assert association.dimse.get_msg(block=False) == (None, None)
    assert association.dimse.get_msg(block=True) == (1, "answer")
    wake(association)
    assert association.dimse.get_msg(block=True) == (None, None)
