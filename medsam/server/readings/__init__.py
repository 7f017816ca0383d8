"""Readings: what readers have open. A reading is a reader, a case, an inference session and the objects outlined in it.

Who waits for whom, and why the event loop never does:

- An inference `Session` is touched on the worker's thread alone: by a step that a reader waits for (`Priority.CLICK`),
  by a refinement (`SLICE`), by a propagation (`PROPAGATE`), each between two slices of what is less urgent. So nothing
  guards it.
- What a call changed in it is found there and then by comparing its steps with those known before (`journal`), and put
  into the reading's queue. One task takes from the queue in order, stores (in a thread), and only then draws the masks
  on the reading's slate, tells those who watch (`events`) and wakes whoever asked. So what is on disk, what is shown
  and what the session holds have one order, and nothing is shown that is not on disk.
- A reading's lock is held by one request at a time that changes it, from looking at the revision to the answer. A
  refinement or a propagation does not hold it: a click comes in between.
- A request that is given up leaves its step to be stored: the answer is lost, the step is not (`changes`).
- Where the store refuses, memory and disk are no longer the same: the reading is dropped from memory and read again.
"""
