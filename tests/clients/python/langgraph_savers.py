"""LangGraph's checkpoint savers. Arguments: port."""

import asyncio

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.redis import RedisSaver
from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from langgraph.checkpoint.redis.shallow import ShallowRedisSaver

from common import done, equal, url


def checkpoint(number):
    state = empty_checkpoint()
    state["channel_values"] = {"count": number}
    state["channel_versions"] = {"count": str(number)}
    return state


def config(thread):
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


with RedisSaver.from_conn_string(url()) as saver:
    saver.setup()
    states = [checkpoint(number) for number in range(3)]
    parent = config("thread-1")
    for number, state in enumerate(states):
        metadata = {"source": "loop", "step": number, "writes": {}}
        parent = saver.put(parent, state, metadata, {"count": str(number)})
    saver.put_writes(parent, [("count", 7)], "task-1")
    latest = saver.get_tuple(config("thread-1"))
    equal(latest.checkpoint["id"], states[2]["id"])
    equal(latest.checkpoint["channel_values"], {"count": 2})
    equal(latest.metadata["step"], 2)
    equal([(write[1], write[2]) for write in latest.pending_writes], [("count", 7)])
    equal(latest.parent_config["configurable"]["checkpoint_id"], states[1]["id"])
    listed = [found.checkpoint["id"] for found in saver.list(config("thread-1"))]
    equal(listed, [state["id"] for state in reversed(states)])
    equal(len(list(saver.list(config("thread-1"), filter={"step": 1}))), 1)
    equal(len(list(saver.list(config("thread-1"), limit=2))), 2)
    equal(saver.get_tuple(config("thread-2")), None)
    saver.put(config("thread-2"), checkpoint(9), {"source": "input", "step": -1, "writes": {}}, {"count": "9"})
    saver.delete_thread("thread-1")
    equal(saver.get_tuple(config("thread-1")), None)
    assert saver.get_tuple(config("thread-2")) is not None

with ShallowRedisSaver.from_conn_string(url()) as saver:
    saver.setup()
    parent = config("shallow-1")
    for number in range(3):
        parent = saver.put(parent, checkpoint(number), {"source": "loop", "step": number, "writes": {}}, {"count": str(number)})
    equal(saver.get_tuple(config("shallow-1")).checkpoint["channel_values"], {"count": 2})
    equal(len(list(saver.list(config("shallow-1")))), 1)


async def asynchronous():
    async with AsyncRedisSaver.from_conn_string(url()) as saver:
        await saver.asetup()
        state = checkpoint(5)
        await saver.aput(config("async-1"), state, {"source": "loop", "step": 5, "writes": {}}, {"count": "5"})
        found = await saver.aget_tuple(config("async-1"))
        equal(found.checkpoint["id"], state["id"])
        equal(len([found async for found in saver.alist(config("async-1"))]), 1)


asyncio.run(asynchronous())
done()
