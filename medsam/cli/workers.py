"""Options of commands that work through many scans: who shares them."""

from __future__ import annotations

import argparse
import importlib.util
from typing import TYPE_CHECKING

from medsam.errors import PromptError

if TYPE_CHECKING:
    from medsam.inference.jobs import Workers


def add_worker_arguments(parser: argparse.ArgumentParser, *earlier: str) -> None:
    """--processes, --threads, --memory and --ray. earlier: other names of --processes that are still taken."""
    group = parser.add_argument_group("many workers", "see docs/many.md")
    group.add_argument(
        "--processes",
        *earlier,
        type=int,
        metavar="N",
        help="share the scans among N processes, each on a GPU of its own where there are several (default: 1); with "
        "--ray N workers (default: as many as the cluster has room for)",
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of each worker (default: an equal share; with --ray 1): with the same number any number of "
        "workers gives the same bytes",
    )
    group.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="what the scans in work at one time may need together on a machine (default: 0.8 of what is free)",
    )
    group.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="share the scans out on a Ray cluster, the one that is there or HOST:PORT",
    )


def workers_of(arguments: argparse.Namespace) -> Workers:
    """What the options say. This process takes the threads of a worker, too.

    Raises PromptError for wrong numbers, ModuleNotFoundError where Ray is asked for and not there.
    """
    for option in ("processes", "threads", "memory"):
        given = getattr(arguments, option)
        if given is not None and not given >= (1 if option != "memory" else 1e-3):
            least = "a whole number from 1" if option != "memory" else "GiB above 0"
            raise PromptError(f"`{option}` takes {least}, not {given}.", parameter=option)
    if arguments.ray is not None and importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")  # now, and not after the weights are loaded

    import torch

    from medsam.inference.jobs import Workers

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    processes = arguments.processes
    return Workers(
        processes=processes if processes is not None or arguments.ray else 1,
        threads=arguments.threads,
        memory=None if arguments.memory is None else int(arguments.memory * 2**30),
        ray=arguments.ray,
    )
