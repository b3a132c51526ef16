"""Run cristae commands on the workers of a SLURM cluster.

Needs ``pip install 'cristae[dask]'`` in an environment that all nodes see, and the project in a folder that all nodes
see. Start it where jobs may be submitted, in a terminal that stays (tmux, screen) or as a small job of its own::

    python slurm.py --jobs 20 --cpus 4 --memory 16GB --queue cpu -- cristae predict bx1

It submits the jobs, waits for the first one, runs the command with ``--executor dask:ADDRESS`` added, and ends the
jobs. Jobs that wait in the queue join when they start; those that reach their time limit cost only their blocks. Stop
it with Ctrl-C: the same command goes on.
"""

import argparse
import subprocess
import sys

from dask_jobqueue import SLURMCluster


def main() -> int:
    """Do it, and return the exit code of the command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--jobs", type=int, default=4, help="workers, each a job of its own")
    options.add_argument("--cpus", type=int, default=4, help="cores of a worker, all for one block")
    options.add_argument("--memory", default="16GB", help="memory of a worker")
    options.add_argument("--time", default="08:00:00", help="longest time of a job")
    options.add_argument("--queue", help="partition")
    options.add_argument("--account", help="who pays")
    options.add_argument("--interface", help="network that workers and this process share, such as ib0")
    options.add_argument("command", nargs="+", help="after --: a cristae command")
    given = options.parse_args()
    cluster = SLURMCluster(
        cores=1,  # one block at a time
        processes=1,
        job_cpu=given.cpus,
        memory=given.memory,
        walltime=given.time,
        queue=given.queue,
        account=given.account,
        interface=given.interface,
        python=sys.executable,
        job_script_prologue=[f"export OMP_NUM_THREADS={given.cpus} OMP_WAIT_POLICY=passive"],
        scheduler_options={"dashboard_address": None},
    )
    with cluster:
        cluster.scale(jobs=given.jobs)
        cluster.wait_for_workers(1)
        return subprocess.run(
            [*given.command, "--executor", f"dask:{cluster.scheduler_address}"], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
