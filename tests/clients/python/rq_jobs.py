"""RQ: jobs of a worker that forks, with retries, dependencies, schedules and registries. Arguments: port."""

import datetime
import sys
import time

from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry

from common import done, equal, port


def add(left, right):
    return left + right


def fail():
    raise ValueError("broken on purpose")


def third_try(name):
    tries = Redis(port=int(sys.argv[1])).incr(name)
    if tries < 3:
        raise ValueError("not yet")
    return tries


def work(*queues):
    Worker(list(queues), connection=db).work(burst=True, logging_level="WARNING")


def main():
    low, high = Queue("low", connection=db), Queue("high", connection=db)
    jobs = [low.enqueue(add, number, 1) for number in range(5)]
    failing = low.enqueue(fail)
    retried = low.enqueue(third_try, "tries", retry=Retry(max=3))
    first = high.enqueue(add, 1, 1)
    dependent = low.enqueue(add, 5, 5, depends_on=[first, jobs[0]])
    moved = low.enqueue(add, 9, 9, at_front=True)
    equal(low.job_ids[0], moved.id)
    equal((len(low), len(high), dependent.get_status().value), (8, 1, "deferred"))
    work(high, low)
    equal([job.return_value() for job in jobs], [1, 2, 3, 4, 5])
    equal((retried.return_value(), dependent.return_value(), moved.return_value()), (3, 10, 18))
    equal((len(low), len(high)), (0, 0))
    equal(FailedJobRegistry(queue=low).get_job_ids(), [failing.id])
    equal(len(FinishedJobRegistry(queue=low)), 8)
    assert "broken on purpose" in failing.latest_result().exc_string
    equal(failing.latest_result().type.name, "FAILED")
    equal([result.type.name for result in retried.results()][0], "SUCCESSFUL")

    FailedJobRegistry(queue=low).requeue(failing.id)
    equal(low.job_ids, [failing.id])
    work(low)
    equal(failing.get_status(refresh=True).value, "failed")

    late = low.enqueue_in(datetime.timedelta(hours=1), add, 1, 2)
    scheduled = ScheduledJobRegistry(queue=low)
    equal(scheduled.get_job_ids(), [late.id])
    equal(scheduled.get_jobs_to_schedule(), [])
    late.delete()
    equal(len(scheduled), 0)
    soon = low.enqueue_in(datetime.timedelta(seconds=1), add, 3, 4)
    while not scheduled.get_jobs_to_schedule():
        time.sleep(0.1)
    Worker([low], connection=db).work(burst=True, with_scheduler=True, logging_level="WARNING")
    equal(soon.return_value(), 7)

    many = low.enqueue_many([Queue.prepare_data(add, (number, number), job_id=f"many-{number}") for number in range(3)])
    equal([job.id for job in many], ["many-0", "many-1", "many-2"])
    jobs[0].meta["seen"] = True
    jobs[0].save_meta()
    equal(Job.fetch(jobs[0].id, connection=db).meta, {"seen": True})
    equal([job.id for job in Job.fetch_many(["many-2", "nosuch", "many-0"], connection=db) if job], ["many-2", "many-0"])
    equal(low.empty(), 3)
    equal(sorted(queue.name for queue in Queue.all(connection=db)), ["high", "low"])
    low.delete(delete_jobs=True)
    equal([queue.name for queue in Queue.all(connection=db)], ["high"])
    equal(Worker.all(connection=db), [])
    done()


if __name__ == "__main__":
    sys.modules["rq_jobs"] = sys.modules["__main__"]
    for function in (add, fail, third_try):
        function.__module__ = "rq_jobs"
    db = Redis(port=port())
    main()
