"""Celery: a worker process, with the server as broker and as store of results. Arguments: port."""

import os
import subprocess
import sys
import time

from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError

ADDRESS = f"redis://127.0.0.1:{os.environ.get('CELERY_TASKS_PORT') or sys.argv[1]}"

app = Celery("celery_tasks", broker=f"{ADDRESS}/1", backend=f"{ADDRESS}/2")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"queue_order_strategy": "priority", "priority_steps": [0, 5, 9]},
    result_extended=True,
    task_default_queue="work",
    task_routes={"celery_tasks.shout": {"queue": "loud"}},
    task_track_started=True,
    worker_hijack_root_logger=False,
)


@app.task
def add(left, right):
    return left + right


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def shout(text):
    return text.upper()


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=3)
def third_try(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1})
    return "done"


def worker_answers():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if app.control.ping(timeout=1):
            return
    raise AssertionError("the worker does not answer")


def main():
    import redis

    from common import done, equal, port, refused

    worker_answers()
    equal(add.delay(2, 3).get(timeout=30), 5)
    equal([add.delay(number, number).get(timeout=30) for number in range(20)], [2 * number for number in range(20)])
    equal(shout.delay("hello").get(timeout=30), "HELLO")
    equal(progress.delay().get(timeout=30), "done")
    equal(third_try.delay().get(timeout=30), 2)
    failed = fail.delay("broken on purpose")
    refused(ValueError, lambda: failed.get(timeout=30), "broken on purpose")
    equal(failed.state, "FAILURE")
    assert "broken on purpose" in failed.traceback

    equal(chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=30), 10)
    equal(group(add.s(number, 1) for number in range(10))().get(timeout=30), list(range(1, 11)))
    equal(chord([add.s(number, 1) for number in range(10)])(total.s()).get(timeout=30), 55)
    equal(chain(group(add.s(1, 1), add.s(2, 2)), total.s())().get(timeout=30), 6)

    begin = time.time()
    equal(add.apply_async((1, 1), countdown=1).get(timeout=30), 2)
    assert time.time() - begin >= 1, "it ran too early"
    revoked = add.apply_async((1, 1), countdown=3600)
    revoked.revoke()
    refused(TaskRevokedError, lambda: revoked.get(timeout=30), "revoked")
    equal(add.apply_async((1, 1), priority=9).get(timeout=30), 2)

    kept = add.delay(1, 2)
    equal(kept.get(timeout=30), 3)
    store = redis.Redis(port=port(), db=2)
    name = f"celery-task-meta-{kept.id}"
    assert 0 < store.ttl(name) <= 86400
    kept.forget()
    equal(store.exists(name), 0)
    inspect = app.control.inspect(timeout=5)
    [names] = inspect.registered().values()
    assert "celery_tasks.add" in names
    [queues] = inspect.active_queues().values()
    equal(sorted(queue["name"] for queue in queues), ["loud", "work"])
    broker = redis.Redis(port=port(), db=1)
    for _ in range(3):
        add.apply_async((1, 1), queue="unread")
    equal(broker.llen("unread"), 3)
    with app.connection_for_write() as connection:
        equal(app.amqp.queues.select_add("unread")(connection).purge(), 3)
    equal(broker.exists("unread"), 0)
    done()


if __name__ == "__main__":
    environment = {**os.environ, "CELERY_TASKS_PORT": sys.argv[1]}
    arguments = ["worker", "--pool=threads", "--concurrency=4", "--queues=work,loud", "--loglevel=WARNING"]
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", *arguments]
    process = subprocess.Popen(command, env=environment, cwd=os.path.dirname(os.path.abspath(__file__)))
    try:
        sys.modules["celery_tasks"] = sys.modules["__main__"]
        main()
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
