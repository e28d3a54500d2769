"""redis-py as applications use it: locks, scripts, a leaderboard, queues, streams and channels. Arguments: port, protocol."""

import sys
import threading

import redis
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError, ResponseError, WatchError

from common import done, equal, port, refused

db = redis.Redis(port=port(), protocol=int(sys.argv[2]), decode_responses=True)


def locks():
    lock = db.lock("lock", timeout=10)
    equal((lock.acquire(), db.lock("lock").acquire(blocking=False), lock.locked(), lock.owned()), (True, False, True, True))
    assert lock.extend(10) and 10 < db.ttl("lock") <= 20
    assert lock.extend(30, replace_ttl=True) and 20 < db.ttl("lock") <= 30
    assert lock.reacquire() and db.ttl("lock") <= 10
    db.set("lock", "of another")
    refused(LockNotOwnedError, lambda: lock.extend(1), "no longer owned")
    refused(LockNotOwnedError, lock.release, "no longer owned")
    db.delete("lock")
    refused(LockError, db.lock("lock").release, "unlocked")

    def add_one():
        for _ in range(25):
            with db.lock("lock", timeout=30, sleep=0.001):
                db.set("count", int(db.get("count") or 0) + 1)

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal((db.get("count"), db.exists("lock")), ("100", 0))


def scripts():
    bucket = db.register_script("""
        local tokens = tonumber(redis.call('HGET', KEYS[1], 'tokens') or ARGV[1])
        local last = tonumber(redis.call('HGET', KEYS[1], 'last') or ARGV[3])
        tokens = math.min(tonumber(ARGV[1]), tokens + (ARGV[3] - last) * ARGV[2])
        local granted = tokens >= 1
        if granted then tokens = tokens - 1 end
        redis.call('HSET', KEYS[1], 'tokens', tokens, 'last', ARGV[3])
        redis.call('EXPIRE', KEYS[1], 60)
        return {granted and 1 or 0, tostring(tokens)}
    """)
    equal([bucket(["bucket"], [2, 0.5, now]) for now in (0, 0, 0, 1, 2)], [[1, "1"], [1, "0"], [0, "0"], [0, "0.5"], [1, "0"]])
    equal(db.script_exists(bucket.sha, "0" * 40), [True, False])
    db.script_flush()
    refused(NoScriptError, lambda: db.evalsha(bucket.sha, 1, "bucket", 2, 0.5, 9), "No matching script")
    equal(bucket(["bucket"], [2, 0.5, 4]), [1, "0"])

    window = """
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (ARGV[1] - ARGV[2]))
        if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return redis.error_reply('LIMIT reached') end
        redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1])
        return redis.call('ZCARD', KEYS[1])
    """
    equal([db.eval(window, 1, "window", now, 10, 3) for now in (1, 2, 3)], [1, 2, 3])
    refused(ResponseError, lambda: db.eval(window, 1, "window", 4, 10, 3), "LIMIT reached")
    equal(db.eval(window, 1, "window", 12, 10, 3), 3)
    equal(db.eval("return cjson.encode({a = {1, 2}, b = ARGV[1]})", 0, "x") in ('{"a":[1,2],"b":"x"}', '{"b":"x","a":[1,2]}'), True)
    equal(db.eval("return cmsgpack.unpack(cmsgpack.pack({1, 'two'}))", 0), [1, "two"])
    equal(db.eval("return {redis.status_reply('FINE'), redis.sha1hex(''), false}", 0), ["FINE", "da39a3ee5e6b4b0d3255bfef95601890afd80709", None])
    db.function_load("""#!lua name=basket
        redis.register_function('put', function(keys, args) return redis.call('HINCRBY', keys[1], args[1], args[2]) end)
        redis.register_function{function_name='size', flags={'no-writes'}, callback=function(keys) return redis.call('HLEN', keys[1]) end}
    """)
    equal((db.fcall("put", 1, "basket", "tea", 2), db.fcall("put", 1, "basket", "tea", 3), db.fcall_ro("size", 1, "basket")), (2, 5, 1))
    db.function_delete("basket")


def leaderboard():
    db.zadd("board", {f"player:{number:03}": number * 10 for number in range(100)})
    equal(db.zincrby("board", 995, "player:003"), 1025.0)
    equal(db.zrevrange("board", 0, 1), ["player:003", "player:099"])
    equal((db.zrevrank("board", "player:003"), db.zrank("board", "player:000"), db.zscore("board", "player:050")), (0, 0, 500.0))
    around = db.zrevrank("board", "player:050")
    equal(db.zrange("board", around - 1, around + 1, desc=True), ["player:051", "player:050", "player:049"])
    equal(db.zrange("board", 990, "+inf", byscore=True), ["player:099", "player:003"])
    equal((db.zcount("board", 500, 600), db.zremrangebyrank("board", 0, 9), db.zcard("board")), (11, 10, 90))
    db.zadd("week", {"player:003": 5, "player:020": 1})
    equal(db.zunionstore("all", {"board": 1, "week": 2}), 90)
    equal(db.zinter(["board", "week"]), ["player:020", "player:003"])
    equal((db.zadd("board", {"player:099": 1}, gt=True), db.zscore("board", "player:099")), (0, 990.0))
    equal(len(db.zpopmin("board", 2)), 2)


def queues():
    equal((db.rpush("jobs", "a", "b", "c"), db.lmove("jobs", "busy", "LEFT", "RIGHT"), db.lrem("busy", 1, "a")), (3, "a", 1))
    equal((db.blpop("jobs", 1)[1], db.brpop(["nosuch", "jobs"], 1)[1]), ("b", "c"))
    found = []
    thread = threading.Thread(target=lambda: found.append(db.blpop(["jobs"], 30)[1]))
    thread.start()
    while not db.info("clients")["blocked_clients"]:
        pass
    db.lpush("jobs", "late")
    thread.join()
    equal((found, db.blpop("jobs", 0.01)), (["late"], None))
    equal((db.sadd("seen", 1, 2, 3), db.sadd("seen", 3, 4), db.sismember("seen", 2), db.scard("seen")), (3, 1, True, 4))
    with db.pipeline() as pipeline:
        pipeline.watch("seen")
        db.sadd("seen", 5)
        pipeline.multi()
        pipeline.scard("seen")
        refused(WatchError, pipeline.execute, "watched variable changed")


def streams():
    db.xgroup_create("events", "readers", mkstream=True)
    ids = [db.xadd("events", {"number": number}) for number in range(5)]
    reply = db.xreadgroup("readers", "one", {"events": ">"}, count=3)
    entries = (reply.get("events")[0] if isinstance(reply, dict) and isinstance(reply["events"][0], list) and isinstance(reply["events"][0][0], (list, tuple)) else reply["events"]) if isinstance(reply, dict) else reply[0][1]
    equal([entry[0] for entry in entries], ids[:3])
    equal((db.xack("events", "readers", *ids[:2]), db.xpending("events", "readers")["pending"]), (2, 1))
    equal([entry[0] for entry in db.xclaim("events", "readers", "two", 0, [ids[2]])], [ids[2]])
    equal([entry[1]["number"] for entry in db.xrange("events", ids[3])], ["3", "4"])
    equal((db.xtrim("events", maxlen=2, approximate=False), db.xlen("events")), (3, 2))


def channels():
    listener = db.pubsub(ignore_subscribe_messages=False)
    listener.subscribe("news")
    listener.psubscribe("n*")
    kinds = [listener.get_message(timeout=10)["type"] for _ in range(2)]
    equal((kinds, db.publish("news", "hello")), (["subscribe", "psubscribe"], 2))
    found = [listener.get_message(timeout=10) for _ in range(2)]
    equal([(message["type"], message["data"]) for message in found], [("message", "hello"), ("pmessage", "hello")])
    equal((db.pubsub_channels(), db.pubsub_numpat()), (["news"], 1))
    listener.close()


for use in (locks, scripts, leaderboard, queues, streams, channels):
    db.flushall()
    use()
done()
