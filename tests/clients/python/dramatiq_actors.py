"""dramatiq: a worker of threads, with delays, retries, groups, pipelines and rate limits. Arguments: port."""

import time

import dramatiq
from dramatiq import Worker, group, pipeline
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import BucketRateLimiter, ConcurrentRateLimiter, RateLimitExceeded, WindowRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.rate_limits.barrier import Barrier
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultFailure
from redis import Redis

from common import done, equal, port, refused, url

db = Redis(port=port())
broker = RedisBroker(url=url())
results = RedisBackend(url=url())
limits = LimitsBackend(url=url())
broker.add_middleware(Results(backend=results))
broker.add_middleware(GroupCallbacks(limits))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(left, right):
    return left + right


@dramatiq.actor(store_results=True, max_retries=5, min_backoff=10, max_backoff=20)
def third_try(name):
    tries = db.incr(name)
    if tries < 3:
        raise ValueError("not yet")
    return tries


@dramatiq.actor(store_results=True, max_retries=0)
def fail():
    raise ValueError("broken on purpose")


@dramatiq.actor(queue_name="finished")
def finished(value):
    db.rpush("finished", value)


def limiters():
    one = ConcurrentRateLimiter(limits, "one", limit=1)
    with one.acquire():
        with one.acquire(raise_on_failure=False) as acquired:
            equal(acquired, False)
    with one.acquire() as acquired:
        equal(acquired, True)
    bucket = BucketRateLimiter(limits, "bucket", limit=2, bucket=60_000)
    window = WindowRateLimiter(limits, "window", limit=3, window=60)
    for limiter, limit in [(bucket, 2), (window, 3)]:
        for _ in range(limit):
            with limiter.acquire():
                pass
        refused(RateLimitExceeded, lambda: limiter.acquire().__enter__(), "rate limit exceeded")
    barrier = Barrier(limits, "barrier", ttl=60_000)
    barrier.create(parties=2)
    equal((barrier.wait(block=False), barrier.wait(block=False)), (False, True))
    assert barrier.wait(timeout=1000)


messages = [add.send(number, 1) for number in range(10)]
equal(db.llen("dramatiq:default"), 10)
worker = Worker(broker, worker_threads=2, worker_timeout=100)
worker.start()
try:
    equal([message.get_result(block=True, timeout=30_000) for message in messages], list(range(1, 11)))
    equal(third_try.send("tries").get_result(block=True, timeout=30_000), 3)
    refused(ResultFailure, lambda: fail.send().get_result(block=True, timeout=30_000), "broken on purpose")
    begin = time.time()
    equal(add.send_with_options(args=(1, 1), delay=1000).get_result(block=True, timeout=30_000), 2)
    assert time.time() - begin >= 1, "it ran too early"
    equal(pipeline([add.message(1, 1), add.message(5), add.message(10)]).run().get_result(block=True, timeout=30_000), 17)
    several = group([add.message(number, number) for number in range(5)])
    several.add_completion_callback(finished.message("all"))
    equal(sorted(several.run().get_results(block=True, timeout=30_000)), [0, 2, 4, 6, 8])
    broker.join("finished", timeout=30_000)
    while not db.exists("finished"):
        time.sleep(0.05)
    equal(db.lrange("finished", 0, -1), [b"all"])
    broker.join("default", timeout=30_000)
finally:
    worker.stop()
equal(db.zcard("dramatiq:default.XQ"), 1)
limiters()
add.send(1, 1)
equal(db.llen("dramatiq:default"), 1)
broker.flush_all()
equal(db.exists("dramatiq:default", "dramatiq:default.msgs"), 0)
done()
