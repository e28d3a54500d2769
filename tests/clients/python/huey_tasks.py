"""huey: a consumer of threads, with retries, schedules, priorities, pipelines and locks. Arguments: port."""

import datetime
import time

from huey import PriorityRedisHuey, RedisHuey
from huey.exceptions import TaskException, TaskLockedException
from redis import Redis

from common import done, equal, port, refused

db = Redis(port=port())


def tasks_of(huey):
    @huey.task()
    def add(left, right):
        return left + right

    @huey.task(retries=2, retry_delay=0)
    def third_try(name):
        tries = db.incr(name)
        if tries < 3:
            raise ValueError("not yet")
        return tries

    @huey.task()
    def fail():
        raise ValueError("broken on purpose")

    @huey.task()
    def remember(value):
        db.rpush("order", value)

    return add, third_try, fail, remember


def last_result(result):
    """huey stores what each try has raised, too."""
    for _ in range(3):
        try:
            return result.get(blocking=True, timeout=30)
        except TaskException:
            result.reset()
    return result.get(blocking=True, timeout=30)


def works(huey):
    add, third_try, fail, remember = tasks_of(huey)
    waiting = [add(number, 1) for number in range(5)]
    equal(len(huey), 5)
    revoked = add(1, 1)
    revoked.revoke()
    assert revoked.is_revoked()
    late = add.schedule((7, 7), delay=3600)
    consumer = huey.create_consumer(workers=2, periodic=False, initial_delay=0.01, scheduler_interval=1)
    consumer.start()
    try:
        equal([result.get(blocking=True, timeout=30) for result in waiting], [1, 2, 3, 4, 5])
        equal(last_result(third_try(f"tries-{huey.name}")), 3)
        refused(TaskException, lambda: fail().get(blocking=True, timeout=30), "broken on purpose")
        begin = time.time()
        equal(add.schedule((1, 2), delay=1).get(blocking=True, timeout=30), 3)
        assert time.time() - begin >= 0.9, "it ran too early"
        pipeline = add.s(1, 1).then(add, 5).then(add, 10)
        equal(huey.enqueue(pipeline).get(blocking=True, timeout=30), [2, 7, 17])
        equal([task.args for task in huey.scheduled()], [(7, 7)])
        late.reschedule(delay=datetime.timedelta(hours=2).seconds)
        equal(revoked.get(), None)
    finally:
        consumer.stop(graceful=True)
    with huey.lock_task("only-one"):
        def locked():
            with huey.lock_task("only-one"):
                raise AssertionError("the lock is held twice")

        refused(TaskLockedException, locked, "only-one")
    return remember


works(RedisHuey("plain", port=port()))
ordered = PriorityRedisHuey("ordered", port=port())
remember = works(ordered)
for value, priority in [("low", 1), ("high", 9), ("middle", 5), ("high-too", 9)]:
    ordered.enqueue(remember.s(value, priority=priority))
while (task := ordered.dequeue()) is not None:
    ordered.execute(task)
equal(db.lrange("order", 0, -1), [b"high", b"high-too", b"middle", b"low"])
ordered.put("kept", {"a": 1})
equal(ordered.get("kept", peek=True), {"a": 1})
equal((ordered.get("kept"), ordered.get("kept")), ({"a": 1}, None))
equal((ordered.put_if_empty("once", 1), ordered.put_if_empty("once", 2)), (True, False))
ordered.flush()
equal((len(ordered), ordered.scheduled_count(), ordered.result_count()), (0, 0, 0))
done()
