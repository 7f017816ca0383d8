"""`medsam pacs listen`: takes series by C-STORE, runs something on each, and sends the result back.

    server      pynetdicom's server, with the holes closed through which a stranger could fill memory or block it
    messages    what one association brings, read with limits
    incoming    a data set on its way to the disk, counted as it comes
    storage     C-STORE: what is accepted, under which name
    spool       the folder, which is the whole state: instances, results, records; quota and retention
    watcher     when a series is complete
    rules, jobs, command, model_run    what runs on which series
    results     what may be sent back: nothing enters another study than its source's
    outbox      sending, again and again until it works
    service     the loop that drives all that

What the folder holds is what counts. Nothing is kept in memory that a restart would need, so a receiver that is killed
goes on where it was; only what was being received or computed at that moment begins anew.

Threads: pynetdicom runs two for each association; they write instances and tell the watcher. The service's own loop
alone decides what is complete, expired or due. Jobs run in a pool, sending in one thread more. `Spool` and the service
each have one lock, the service's is taken first, and none is held while a job runs or something is sent.
"""
