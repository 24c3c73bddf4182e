# mypy: ignore-errors
# ^ Prefect is installed in the server's environment only, never where types are checked
"""Flows that the tests run for real: the Python of the *server's* environment runs this script, nothing imports it.

`real_flows.py NAME [ARGUMENT …]` runs one of them and prints one JSON object about it. What fails, fails on purpose:
the exit code is 0 unless the script itself is wrong.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path

import prefect
from prefect import flow, get_run_logger, pause_flow_run, suspend_flow_run, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import INPUTS
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run
from prefect.states import Pending
from prefect.task_engine import run_task
from prefect.transactions import transaction


def tell(**what) -> None:
    print(json.dumps(what, default=str), flush=True)


def running_id() -> str:
    return str(this_flow_run.id)


@task
def double(number: int) -> int:
    return number * 2


# 3.0 knows whole seconds only
WHOLE_SECONDS = prefect.__version__.startswith("3.0.")


@task(retries=2, retry_delay_seconds=1 if WHOLE_SECONDS else 0.3)
def succeeds_at_the_third_attempt() -> int:
    if this_task_run.run_count < 3:
        raise ConnectionError("closed by the other side")
    return 3


@task(retries=1, retry_delay_seconds=[1 if WHOLE_SECONDS else 0.2])
def fails_at_every_attempt() -> None:
    raise ValueError("wrong every time")


@flow
def task_retries():
    succeeds_at_the_third_attempt()
    fails_at_every_attempt(return_state=True)
    return running_id()


@task(cache_policy=INPUTS, persist_result=True)
def cached(key: str) -> str:
    return key.upper()


@flow
def cached_task(key: str):
    """Two calls with one key: the second is answered from the cache."""
    cached(key)
    cached(key)
    return running_id()


@flow(retries=1, retry_delay_seconds=1 if WHOLE_SECONDS else 0.5)
def flow_retry():
    """Fails on its first attempt only."""
    double(1)
    if this_flow_run.run_count < 2:
        # no TimeoutError, which 3.4 takes for its own and does not retry
        raise ConnectionError("no answer in 30 s")
    return running_id()


@flow
def child(number: int) -> int:
    return double(number)


@flow
def failing_child() -> None:
    double(0)
    raise RuntimeError("the child fails")


@flow
def subflows():
    child(1)
    failing_child(return_state=True)
    return running_id()


@task
def reciprocal(number: int) -> float:
    return 1 / number


@task
def after(number: float) -> float:
    return number


@flow
def mapped_failures():
    """Of five mapped runs one fails, and the one that needed it never starts."""
    results = reciprocal.map([-2, -1, 0, 1, 2])
    later = after.map(results)
    later.wait()
    return running_id()


@flow
def many_tasks(count: str):
    double.map(range(int(count))).wait()
    return running_id()


@task
def kill_process() -> None:
    # the client sends its events in the background, and a killed process sends none
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGKILL)


@flow
def killed():
    """Ends its process in the middle of a task."""
    tell(run=running_id())
    double(1)
    kill_process()


def outside_any_flow():
    state = double(21, return_state=True)
    failed = reciprocal(0, return_state=True)
    return [state.state_details.task_run_id, failed.state_details.task_run_id]


@task
def write_file() -> str:
    return "written"


@write_file.on_rollback
def remove_file(txn) -> None:
    print("removed", file=sys.stderr)


@flow
def rolled_back():
    with transaction():
        write_file()
        raise RuntimeError("the second write fails")


def transaction_rolled_back():
    state = rolled_back(return_state=True)
    return state.state_details.flow_run_id


@task
def wait_for(file: str) -> None:
    tell(flow_run=running_id())
    while not Path(file).exists():
        time.sleep(0.1)


@flow
def waiting(file: str):
    """Has a task that waits until a file is there."""
    wait_for(file)


@flow
def executed_twice(*files: str):
    """One task run executed twice, as Dask does with one whose result it lost; each waits until its file is there."""
    task_run_id = uuid.uuid4()
    for file in files:
        run_task(wait_for, task_run_id=task_run_id, parameters={"file": file}, return_type="state")
        # the server records some seconds at once, and of the row only what is the last in them
        time.sleep(3)
    return task_run_id


@flow
def paused():
    """Waits in its process until somebody resumes it."""
    tell(run=running_id())
    double(1)
    pause_flow_run(timeout=1800, poll_interval=1)
    double(2)
    return running_id()


@flow(persist_result=True)
def suspended():
    """Leaves its process when it waits, and is run again when it was resumed."""
    double(1)
    suspend_flow_run(timeout=3600)
    double(2)
    return running_id()


async def new_run_of_suspended() -> str:
    # not with the sync client, which could not make deployments in 3.0
    async with get_client() as client:
        deployment = await client.create_deployment(flow_id=await client.create_flow(suspended), name="suspended")
        return str((await client.create_flow_run_from_deployment(deployment)).id)


def run_suspended(run_id: str = ""):
    """Run it as a worker does, claim it first, until it ends or waits. Only runs of a deployment can be suspended."""
    run_id = run_id or asyncio.run(new_run_of_suspended())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Pending())
        with contextlib.suppress(Pause):
            run_flow(suspended, flow_run=client.read_flow_run(run_id), return_type="state")
    return run_id


@task(task_run_name="log in with {password}", cache_key_fn=lambda _, given: given["password"])
def log_in(password: str) -> None:
    raise ConnectionError(f"{password} is refused")


@flow(flow_run_name="import with {password}")
def tells_its_secret(password: str, servers: list[dict]):
    """Shows a parameter wherever a flow can: in names, tags, messages, a cache key."""
    with prefect.tags(password):
        log_in(password, return_state=True)
    raise RuntimeError(f"no way in with {password}")


def secret(password: str):
    with prefect.tags(password):
        state = tells_its_secret(password, [{"host": "a", "token": password}], return_state=True)
    return state.state_details.flow_run_id


@task
def warns() -> None:
    get_run_logger().warning("of a task")


@flow
def logged():
    """Logs at several levels, leaves an artifact and an event, and fails."""
    logger = get_run_logger()
    logger.info("of the flow")
    warns()
    logger.error("of the flow")
    create_markdown_artifact("# Body", key="left", description="by the flow")
    emit_event("shop.closed", resource={"prefect.resource.id": f"shop.{running_id()}"})
    raise RuntimeError("closed")


def logged_and_failed():
    state = logged(return_state=True)
    return str(state.state_details.flow_run_id)


def ordinary_flows():
    """All that need nobody's help, in one process: results by name."""
    return {
        # first, for after a flow Prefect's client takes such tasks for a part of it
        "outside_any_flow": outside_any_flow(),
        "task_retries": task_retries(),
        "cached_task": cached_task("key"),
        "flow_retry": flow_retry(),
        "subflows": subflows(),
        "mapped_failures": mapped_failures(),
        "transaction_rolled_back": transaction_rolled_back(),
    }


def main() -> int:
    name, *arguments = sys.argv[1:]
    tell(result=globals()[name](*arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
