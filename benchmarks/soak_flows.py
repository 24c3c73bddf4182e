# mypy: ignore-errors
# ^ Prefect is installed in the server's environment only, never where types are checked
"""Flows that really run during a soak: the Python of the *server's* environment runs this script, nothing imports it.

`soak_flows.py SEED` runs one random flow after the other until its standard input is closed, and prints each as one
JSON object when it has ended.
What fails, fails on purpose; what the soak does to a run behind its back (cancel, delete, …) fails too.
"""

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time

from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run

LONGEST_SECONDS = 60.0


@task(tags=["soaked"])
def double(number: int) -> int:
    return number * 2


@task
def sleeps(seconds: float) -> None:
    time.sleep(seconds)


@task(retries=2, retry_delay_seconds=0.5)
def succeeds_at_the_third_attempt() -> int:
    if this_task_run.run_count < 3:
        raise ConnectionError("closed by the other side")
    return 3


@task(cache_policy=INPUTS, persist_result=True)
def cached(key: int) -> int:
    return key


@task
def reciprocal(number: int) -> float:
    return 1 / number


@task
def after(number: float) -> float:
    return number


@flow
def quick(number: int):
    """A task twice, the second answered from a cache that earlier runs filled."""
    cached(number % 7)
    return double(number)


@flow
def slow(number: int):
    """Long enough to be synced, and changed, while it runs."""
    for _ in range(number % 4 + 1):
        sleeps(1.5)


@flow(retries=1, retry_delay_seconds=1)
def retried(number: int):
    succeeds_at_the_third_attempt()
    if this_flow_run.run_count < 2 or number % 3 == 0:
        raise TimeoutError("no answer in 30 s")


@flow
def mapped(number: int):
    """One of the mapped runs fails, and the one that needed it never starts."""
    results = reciprocal.map(range(-2, number % 5))
    after.map(results).wait()


@flow
def parent(number: int):
    quick(number)
    failing(number, return_state=True)


@flow(log_prints=False)
def failing(number: int):
    double(number)
    raise RuntimeError(f"fails for {number}")


FLOWS = (quick, quick, slow, retried, mapped, parent, parent, failing)


def outside_any_flow(number: int) -> None:
    double(number)


def main() -> int:
    generator = random.Random(int(sys.argv[1]))
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()
        # a flow whose run was changed behind its back may wait for ever
        time.sleep(LONGEST_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not stop.is_set():
        chosen, number = generator.choice([*FLOWS, outside_any_flow]), generator.randrange(1000)
        # Prefect's Pause, Abort and cancellations are no Exceptions
        with contextlib.suppress(BaseException):
            chosen(number)
        print(json.dumps({"flow": chosen.__name__, "number": number}), flush=True)
        stop.wait(generator.uniform(0, 1.5))
    return 0


if __name__ == "__main__":
    sys.exit(main())
