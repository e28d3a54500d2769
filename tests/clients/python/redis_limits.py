"""Libraries on top of redis-py: pottery's Redlock and containers, and rate limits of `limits`. Arguments: port."""

import threading

from limits import RateLimitItemPerHour, RateLimitItemPerMinute, parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from pottery import (
    BloomFilter,
    HyperLogLog,
    NextID,
    RedisCounter,
    RedisDeque,
    RedisDict,
    RedisList,
    RedisSet,
    Redlock,
    ReleaseUnlockedLock,
    redis_cache,
)
from redis import Redis

from common import done, equal, port, refused, url

db = Redis(port=port())

storage = storage_from_string(url())
assert storage.check()
for strategy in (FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter):
    limiter, limit = strategy(storage), RateLimitItemPerHour(5)
    name = strategy.__name__
    equal([limiter.hit(limit, name) for _ in range(6)], [True] * 5 + [False])
    equal((limiter.test(limit, name), limiter.test(limit, "other"), limiter.get_window_stats(limit, name).remaining), (False, True, 0))
    equal((limiter.hit(limit, "several", name, cost=4), limiter.hit(limit, "several", name, cost=2)), (True, False))
    limiter.clear(limit, name)
    equal(limiter.hit(limit, name), True)
    equal(limiter.hit(parse("10/second"), name), True)
assert storage.reset() > 0
equal(MovingWindowRateLimiter(storage).hit(RateLimitItemPerMinute(1), "again"), True)

lock = Redlock(key="printer", masters={db}, auto_release_time=20)
with lock:
    assert 0 < lock.locked() <= 20
    equal(Redlock(key="printer", masters={db}).acquire(blocking=False), False)
    lock.extend()
refused(ReleaseUnlockedLock, lock.release, "printer")
count = RedisCounter(redis=db, key="count")


def add_one():
    for _ in range(10):
        with Redlock(key="counter", masters={db}, auto_release_time=20):
            count["value"] += 1


threads = [threading.Thread(target=add_one) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
equal(count["value"], 30)

tags = RedisSet(["a", "b", "c"], redis=db, key="tags")
equal(("a" in tags, tags.issuperset({"a", "b"}), tags.isdisjoint({"x"}), len(tags), tags.pop() in {"a", "b", "c"}), (True, True, True, 3, True))
words = RedisList([1, 2, 3], redis=db, key="words")
words.insert(1, 9)
words.extend([4, 5])
equal((list(words), words[-2], words[1:3], words.pop(0)), ([1, 9, 2, 3, 4, 5], 4, [9, 2], 1))
del words[0]
equal(list(words), [2, 3, 4, 5])
recent = RedisDeque([1, 2, 3], maxlen=3, redis=db, key="recent")
recent.append(4)
recent.rotate(1)
equal(list(recent), [4, 2, 3])
names = RedisDict({"a": 1}, redis=db, key="names")
names["b"] = [2]
equal((dict(names), names.pop("a"), names.get("nosuch")), ({"a": 1, "b": [2]}, 1, None))
ids = NextID(key="ids", masters={db})
equal([next(ids) for _ in range(3)], [1, 2, 3])
filter_ = BloomFilter(num_elements=100, false_positives=0.01, redis=db, key="filter")
filter_.update(["one", "two"])
equal(("one" in filter_, "nine" in filter_, "two" in filter_), (True, False, True))
unique = HyperLogLog([f"user-{number}" for number in range(500)], redis=db, key="unique")
assert 480 <= len(unique) <= 520
calls = []


@redis_cache(redis=db, key="cache")
def square(number):
    calls.append(number)
    return number * number


equal(([square(3), square(3), square(4)], calls, square.cache_info().hits), ([9, 9, 16], [3, 4], 1))
done()
