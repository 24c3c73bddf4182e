"""`prefect-runs` as ever, with every request that it sends written to a file, for the floor to send again.

python benchmarks/recording.py REQUESTS sync …
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from requests import PreparedRequest, Response

from prefect_runs.client import CountingAdapter
from prefect_runs_pipelines.cli import main


def record(file: Path, arguments: list[str]) -> int:
    """Run the command; its exit code. The requests are lines of JSON, in the order in which they were sent."""
    lock = threading.Lock()
    send = CountingAdapter.send
    with file.open("w") as lines:

        def recording(self: CountingAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
            body = request.body.decode() if isinstance(request.body, bytes) else request.body
            with lock:
                lines.write(json.dumps([request.method, request.url, body]) + "\n")
            return send(self, request, *args, **kwargs)

        CountingAdapter.send = recording  # type: ignore[method-assign]
        code: int = main(arguments)
        return code


if __name__ == "__main__":
    sys.exit(record(Path(sys.argv[1]), sys.argv[2:]))
