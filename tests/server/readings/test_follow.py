from medsam.server.readings.follow import Following


def test_a_propagation_that_was_stopped_before_it_began_never_runs():
    job = Following("a", 1)
    job.stop()
    assert (job.begin(), job.state, job.runs) == (False, "stopped", False)
    job = Following("b", 1)
    assert job.begin()
    job.stop()
    # it ends with its slice
    assert (job.state, job.wanted, job.runs) == ("running", False, True)
    assert "turn" not in job.to_dict()
