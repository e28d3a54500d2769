"""arq: a worker with defers, retries, aborts and cron. Arguments: port."""

import asyncio
import datetime

from arq import Retry, cron, create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from arq.worker import Worker

from common import done, equal, port

settings = RedisSettings(port=port())


async def add(context, left, right):
    return left + right


async def fail(context):
    raise ValueError("broken on purpose")


async def third_try(context):
    if context["job_try"] < 3:
        raise Retry(defer=0.1)
    return context["job_try"]


async def tick(context):
    await context["redis"].incr("ticks")


class Works:
    """A worker that runs while the block does."""

    def __init__(self, functions, **options):
        self.worker = Worker(functions, redis_settings=settings, poll_delay=0.05, handle_signals=False, **options)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.worker.async_run())
        return self.worker

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.worker.close()


async def main():
    pool = await create_pool(settings)
    jobs = [await pool.enqueue_job("add", number, 1) for number in range(10)]
    failing = await pool.enqueue_job("fail")
    retried = await pool.enqueue_job("third_try")
    named = await pool.enqueue_job("add", 2, 2, _job_id="only-one")
    equal(await pool.enqueue_job("add", 2, 2, _job_id="only-one"), None)
    late = await pool.enqueue_job("add", 3, 3, _defer_by=datetime.timedelta(hours=1))
    soon = await pool.enqueue_job("add", 4, 4, _defer_by=0.3)
    equal(len(await pool.queued_jobs()), 15)
    equal((await named.status(), await late.status()), (JobStatus.queued, JobStatus.deferred))
    async with Works([add, fail, third_try], allow_abort_jobs=True) as worker:
        equal([await job.result(timeout=30) for job in jobs], list(range(1, 11)))
        equal((await retried.result(timeout=30), await named.result(timeout=30), await soon.result(timeout=30)), (3, 4, 8))
        try:
            raise AssertionError(await failing.result(timeout=30))
        except ValueError as error:
            equal(str(error), "broken on purpose")
        aborted = await pool.enqueue_job("add", 1, 1, _defer_by=3600)
        equal((await aborted.abort(timeout=30), await aborted.status()), (True, JobStatus.complete))
        equal((worker.jobs_complete, worker.jobs_failed, worker.jobs_retried), (13, 2, 2))
    info = await retried.result_info()
    equal((info.function, info.success, info.job_try), ("third_try", True, 3))
    equal((await late.status(), await Job("nosuch", pool).status()), (JobStatus.deferred, JobStatus.not_found))
    equal(len(await pool.all_job_results()), 15)
    equal([job.function for job in await pool.queued_jobs()], ["add"])
    async with Works([add], cron_jobs=[cron(tick, run_at_startup=True)]):
        while await pool.get("ticks") is None:
            await asyncio.sleep(0.05)
    await pool.aclose()


asyncio.run(main())
done()
