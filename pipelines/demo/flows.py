# mypy: ignore-errors
# ^ Prefect is installed in the server's environment only, never where types are checked
"""Sample flows, run for real: the Python of the *server's* environment runs this script, nothing imports it.

``run`` is a first day: successes, failures, retries, a pause, a cancellation, crashes and a schedule.
``change`` is what happens to those runs after a first sync: late endings, retries and corrections by hand.
Each prints one JSON line for each thing it did. It talks to the server at ``PREFECT_API_URL``.
"""

import contextlib
import datetime
import json
import signal
import subprocess
import sys
import threading
import time

from prefect import flow, get_client, pause_flow_run, suspend_flow_run, tags, task
from prefect.cache_policies import INPUTS
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterName,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Completed, Crashed, Pending, Scheduled

PATIENCE_SECONDS = 120.0
# sent with every read: the client's own default is null, which the server refuses (422)
PAGE = 200

SALES = "sales-of-today"
REPORT = "report-of-today"
FORECAST = "forecast-of-today"
INVOICES = "invoices-of-today"
REFUND = "refund-to-approve"
ABANDONED = "model-abandoned"
CANCELLED = "model-cancelled"


@task
def extract(region: str) -> list[int]:
    time.sleep(0.1)
    return list(range(len(region)))


@task
def transform(row: int) -> int:
    return row * 2


@task(retries=1, retry_delay_seconds=0)
def fetch_rates() -> float:
    """Fails on its first attempt only."""
    if this_task_run.run_count < 2:
        raise ConnectionError("the rates service closed the connection")
    return 1.1


@task(cache_policy=INPUTS, persist_result=True)
def look_up_currency(country: str) -> str:
    return {"FR": "EUR"}.get(country, "USD")


@task
def pay(amount: float) -> None:
    time.sleep(0.05)


@task
def train() -> None:
    # until it is killed
    time.sleep(1200)


@flow(name="daily-sales")
def daily_sales(region: str = "north") -> int:
    """Mapped tasks, a task that is retried, and a task whose second call is cached."""
    rows = [row.result() for row in transform.map(extract(region))]
    rate = fetch_rates()
    look_up_currency("FR")
    look_up_currency("FR")
    return int(sum(rows) * rate)


@flow(name="send-report", flow_run_name="report-of-{total}-rows")
def send_report(total: int) -> str:
    return f"{total} sent"


@flow(name="nightly")
def nightly() -> None:
    """A flow with a subflow."""
    send_report(sum(extract("south")))


@flow(name="partner-import", retries=1, retry_delay_seconds=0)
def partner_import() -> None:
    """Fails on its first attempt only; Prefect tries again by itself."""
    extract("west")
    if this_flow_run.run_count < 2:
        raise TimeoutError("the partner did not answer in 30 s")


@flow(name="forecast")
def forecast() -> None:
    """Fails until somebody retries it by hand."""
    extract("east")
    if this_flow_run.run_count < 2:
        raise ValueError("no data for 2 of 14 days")


@flow(name="invoices")
def invoices() -> None:
    raise KeyError("invoice 4711 has no customer")


@flow(name="payout")
def payout() -> None:
    """Waits, its process alive, until somebody resumes it."""
    pause_flow_run(timeout=60, poll_interval=1)
    pay(12.5)


@flow(name="refund", persist_result=True)
def refund() -> None:
    """Ends its process when it must wait, and starts again in a new one when it is resumed."""
    suspend_flow_run(timeout=3600)
    pay(99.0)


@flow(name="out-of-memory")
def out_of_memory() -> None:
    raise SystemExit("killed by its own memory guard")


@flow(name="train-model")
def train_model() -> None:
    train()


def say(did: str, run: str) -> None:
    print(json.dumps({"did": did, "run": run}), flush=True)


def play(sample, did: str, name: str) -> None:
    """Run a flow to its end, whatever end that is."""
    with contextlib.suppress(SystemExit):
        sample.with_options(flow_run_name=name)(return_state=True)
    say(did, name)


def play_again(client, sample, run_id) -> None:
    """Run a flow run that waits on the server, as a worker does: claim it, then run it."""
    # claimed at once, or the server may find it late
    client.set_flow_run_state(run_id, Pending())
    with contextlib.suppress(Pause):
        run_flow(sample, flow_run=client.read_flow_run(run_id), return_type="state")


def wait_for(what: str, read):
    """The first true value that ``read()`` returns."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := read():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not happen in {PATIENCE_SECONDS:.0f} s")


def run_named(client, name: str):
    """The flow run of that name, or None."""
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=PAGE,
    )
    return found[0] if found else None


def reached(client, name: str, state_type: StateType):
    """The flow run of that name if it is in such a state now, else None."""
    run = run_named(client, name)
    return run if run and run.state and run.state.type == state_type else None


def waiting_runs(client, deployment_id):
    """The deployment's runs that its schedule made and that wait for their time, soonest first."""
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=PAGE,
    )
    return [run for run in runs if run.auto_scheduled and run.state and run.state.is_scheduled()]


def start_apart(name: str) -> subprocess.Popen:
    """Start ``train-model`` under that name in a process that can be killed."""
    return subprocess.Popen([sys.executable, "-P", __file__, "train", name])


def wait_for_training(client, name: str):
    """The run of ``train-model`` of that name, once the server knows that its task runs."""

    def read():
        run = reached(client, name, StateType.RUNNING)
        tasks = run and client.read_task_runs(
            task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id])),
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
        )
        return run if tasks and tasks[0].state_type == StateType.RUNNING else None

    return wait_for(f"{name} running", read)


def resume_when_paused(name: str) -> None:
    """What a person does in the user interface while the flow waits."""
    with get_client(sync_client=True) as client:
        run = wait_for(f"{name} paused", lambda: reached(client, name, StateType.PAUSED))
        client.resume_flow_run(run.id)


def pause_and_resume(name: str) -> None:
    person = threading.Thread(target=resume_when_paused, args=[name])
    person.start()
    play(payout, "paused a run and resumed it through the API", name)
    person.join()


def deploy(client, sample, name: str, **options):
    """A deployment that no worker serves: its runs are scheduled and stay so."""
    return client.create_deployment(
        flow_id=client.create_flow(sample), name=name, work_pool_name="laptop", tags=["demo"], **options
    )


def schedule_runs(client) -> None:
    """Hourly runs, one of them cancelled before its time, and one run that nobody picks up: it goes late."""
    hourly = IntervalSchedule(interval=datetime.timedelta(hours=1))
    schedules = [DeploymentScheduleCreate(schedule=hourly, active=True)]
    deployment_id = deploy(client, daily_sales, "every-hour", schedules=schedules)
    runs = wait_for("scheduling", lambda: waiting_runs(client, deployment_id))
    say(f"deployed with an hourly schedule; the server made {len(runs)} runs, the first is", runs[0].name)
    client.set_flow_run_state(runs[-1].id, Cancelled(message="a holiday"))
    say("cancelled a scheduled run before its time", runs[-1].name)
    late = client.create_flow_run_from_deployment(deployment_id, state=Scheduled(), name="sales-nobody-runs")
    wait_for("a late run", lambda: client.read_flow_run(late.id).state_name == "Late")
    say("scheduled a run that no worker picks up: it is late", late.name)


def suspend(client, name: str) -> None:
    """Only runs of a deployment can be suspended."""
    deployment_id = deploy(client, refund, "on-request")
    run = client.create_flow_run_from_deployment(deployment_id, name=name)
    play_again(client, refund, run.id)
    say("suspended a run that waits for an approval", name)


def cancel(client, process: subprocess.Popen, name: str) -> None:
    """What a worker does when a run is cancelled: the process ends, then the state says so."""
    run = wait_for_training(client, name)
    client.set_flow_run_state(run.id, Cancelling())
    process.kill()
    process.wait()
    client.set_flow_run_state(run.id, Cancelled(message="the new model is not needed"), force=True)
    say("cancelled a run while it ran", name)


def abandon(client, process: subprocess.Popen, name: str) -> None:
    wait_for_training(client, name)
    process.send_signal(signal.SIGKILL)
    process.wait()
    say("killed the process of a run with SIGKILL: the server believes that it runs", name)


def first_round(client) -> None:
    client.create_work_pool(WorkPoolCreate(name="laptop", type="process"))
    apart = {name: start_apart(name) for name in (ABANDONED, CANCELLED)}
    try:
        play(daily_sales, "ran a flow with mapped, retried and cached tasks", SALES)
        play(nightly, "ran a flow with a subflow", REPORT)
        play(partner_import, "ran a flow that failed and was retried by Prefect", "partner-import-of-today")
        play(forecast, "ran a flow that failed", FORECAST)
        play(invoices, "ran a flow that failed", INVOICES)
        play(out_of_memory, "ran a flow that crashed", "out-of-memory-of-today")
        pause_and_resume("payout-of-today")
        suspend(client, REFUND)
        schedule_runs(client)
        abandon(client, apart[ABANDONED], ABANDONED)
        cancel(client, apart[CANCELLED], CANCELLED)
    finally:
        for process in apart.values():
            process.kill()
            process.wait()


def second_round(client) -> None:
    failed = run_named(client, FORECAST)
    client.set_flow_run_state(failed.id, AwaitingRetry(), force=True)
    play_again(client, forecast, failed.id)
    say("retried a failed run by hand", FORECAST)

    corrected = Completed(name="Fixed by hand", message="invoice 4711 was booked by hand")
    client.set_flow_run_state(run_named(client, INVOICES).id, corrected, force=True)
    say("set a failed run to a completed state", INVOICES)

    suspended = run_named(client, REFUND)
    client.resume_flow_run(suspended.id)
    play_again(client, refund, suspended.id)
    say("approved the suspended run, which went on to its end", REFUND)

    gone = Crashed(message="its process is gone")
    client.set_flow_run_state(run_named(client, ABANDONED).id, gone, force=True)
    say("marked the run without a process as crashed", ABANDONED)

    scheduled = waiting_runs(client, run_named(client, "sales-nobody-runs").deployment_id)[-1]
    client.set_flow_run_state(scheduled.id, Cancelled(message="a holiday too"))
    say("cancelled another scheduled run", scheduled.name)

    play(daily_sales, "ran a flow again: all its currencies are cached now", "sales-of-today-again")


def main() -> int:
    round_name, *names = sys.argv[1:]
    with tags("demo"), get_client(sync_client=True) as client:
        if round_name == "train":
            train_model.with_options(flow_run_name=names[0])()
        else:
            {"run": first_round, "change": second_round}[round_name](client)
    return 0


if __name__ == "__main__":
    sys.exit(main())
