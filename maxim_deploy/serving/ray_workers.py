"""Files restored by the workers of a Ray cluster.

Paths travel and pixels do not: a worker reads, restores and writes, and answers with the result and
with what the record should hold. The process of the command alone appends to records.

    RayWorkers -> Crew -> actors, each a `FileWorker` with one Restorer -> answers -> records

Plain actors rather than Ray Data: when a worker is lost, Ray says which calls were lost with it, so
that a file that kills its worker is found, and all others are not restored again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maxim_deploy._files import Partial
from maxim_deploy._optional import require
from maxim_deploy.errors import UsageError
from maxim_deploy.imaging import Rounding
from maxim_deploy.jobs.job import FileResult, Job
from maxim_deploy.jobs.progress import Tally
from maxim_deploy.jobs.runner import JobRunner
from maxim_deploy.runtime.info import result_settings
from maxim_deploy.runtime.registry import backend_named
from maxim_deploy.serving.ray_cluster import WorkerNeeds, connected
from maxim_deploy.serving.ray_crew import Crew
from maxim_deploy.serving.ray_worker import IDENTITY, WorkerSettings


class RayWorkers(JobRunner):
    """Workers on the nodes of a Ray cluster, each with a `Restorer`, as `restore_files` takes them.

    All nodes must see the files under the same paths, and have the same version of maxim-deploy.
    The bundle is loaded by each worker. What is finished is recorded by this process alone.

    A worker that is lost costs the files that it had at the time: they are restored again, one at a
    time, and given up with a reason if they go on to cost workers.

    Args:
        bundle: its path, on all nodes.
        address: of the cluster, HOST:PORT; "local" for one of this machine alone, for as long as
            files are restored; "auto" for that of `RAY_ADDRESS`, or the one that this machine
            belongs to, or else "local".
        workers: at most; or (least, most), where no file begins before the least are ready. None
            for as many as the cluster has room for now.
        gpus_per_worker: 1; a fraction for several workers per GPU; 0 for workers on the CPU.
        load_options: of `load`, but `lanes`, `device` and `stream`. `threads` is the number of
            processors that each worker takes, 1 unless it is given.

    Raises:
        UsageError: an option is wrong.
        MissingDependencyError: Ray is not installed.

    Example:
        >>> import maxim_deploy
        >>> from maxim_deploy.serving.ray_workers import RayWorkers
        >>> workers = RayWorkers("build/demo", workers=2)
        >>> for result in maxim_deploy.restore_files(workers, ["photos"], "restored"):
        ...     print(result.input, result.status)
        photos/a.jpg restored
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        address: str = "auto",
        workers: int | tuple[int, int] | None = None,
        gpus_per_worker: float = 0.0,
        **load_options: Any,
    ) -> None:
        for name in ("lanes", "device", "stream"):
            if name in load_options:
                raise UsageError(f"{name} | is not chosen with Ray | omit it")
        if not 0 <= gpus_per_worker <= 1:
            raise UsageError(
                f"gpus_per_worker {gpus_per_worker:g} | expected 0, a fraction of a GPU, or 1: a "
                "worker uses one GPU at most"
            )
        least, most = workers if isinstance(workers, tuple) else (1, workers)
        if least < 1 or (most is not None and most < least):
            raise UsageError(f"workers {workers} | expected 1 or more, and no more least than most")
        _check_device(load_options.get("backend", "auto"), gpus_per_worker)
        if address.startswith("ray://"):
            raise UsageError(
                f"address {address!r} | Ray Client does not take part in the cluster | run the "
                "command on a node of the cluster with 'auto', or submit it with `ray job submit`"
            )
        require("ray", "ray")
        self.load_options = load_options
        self.settings = result_settings(Path(bundle), load_options)
        self._bundle, self._address = Path(bundle), address
        self._least, self._most = least, most
        self._needs = WorkerNeeds(load_options.get("threads", 1), gpus_per_worker)

    def run(
        self,
        jobs: Sequence[Job],
        tally: Tally,
        cancel: threading.Event,
        *,
        rounding: Rounding,
        self_ensemble: bool,
        expected: Mapping[tuple[int, int], int] | None = None,
    ) -> Iterator[FileResult]:
        """As `JobRunner.run`, with the workers of the cluster.

        Raises:
            BackendError: the cluster cannot be reached, or no worker can be started.
            MaximDeployError: no worker can load the bundle.
        """
        with ExitStack() as stack:
            cluster = stack.enter_context(connected(self._address, self._needs))
            witness = Partial(jobs[0].target.with_name("witness"))
            stack.callback(witness.discard)
            most = self._most or max(self._least, cluster.room())
            options = dict(self.load_options)
            if expected:
                # Of each worker: compiling for a size must pay in every one.
                options["expected"] = {size: -(-n // most) for size, n in expected.items()}
            paths = [self._bundle, *(path for job in jobs for path in (job.source, job.target))]
            settings = WorkerSettings(
                bundle=self._bundle,
                load_options=options,
                rounding=rounding,
                self_ensemble=self_ensemble,
                folder=None if all(path.is_absolute() for path in paths) else Path.cwd(),
                witness=witness.path,
                identity={name: self.settings[name] for name in IDENTITY},
                most=most,
                gpus=self._needs.gpus,
                log_level=logging.getLogger("maxim_deploy").getEffectiveLevel(),
            )
            crew = Crew(cluster, settings, jobs, tally, self._least)
            stack.callback(crew.dismiss)
            yield from crew.results(cancel)


def _check_device(backend: str, gpus: float) -> None:
    if backend == "auto":
        return
    is_on_gpu = backend_named(backend).is_on_gpu
    if is_on_gpu and not gpus:
        raise UsageError(
            f"backend {backend!r} | runs on a GPU, and workers have none | pass --gpus-per-worker 1"
        )
    if gpus and backend != "torch" and not is_on_gpu:
        raise UsageError(f"backend {backend!r} | runs on the CPU | omit --gpus-per-worker")
