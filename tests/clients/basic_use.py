"""redis-py against a running server: what applications do every day. Usage: basic_use.py PORT PROTOCOL"""

import struct
import sys
import time

import redis
from redis.commands.search.field import NumericField, TagField, VectorField
from redis.commands.search.index_definition import IndexDefinition, IndexType
from redis.commands.search.query import Query

PORT, PROTOCOL = int(sys.argv[1]), int(sys.argv[2])
db = redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True, client_name="basic-use")


def refuses(error, text, call):
    try:
        call()
    except error as found:
        assert text in str(found), str(found)
    else:
        raise AssertionError(f"nothing was refused; expected {text}")


def strings():
    assert db.ping() is True
    assert db.set("name", "engram") and db.get("name") == "engram"
    assert db.set("name", "other", nx=True) is None
    assert db.set("name", "new", get=True) == "engram"
    assert db.get("absent") is None and db.exists("name", "absent") == 1
    assert db.incr("count") == 1 and db.incrby("count", 41) == 42 and db.decr("count") == 41
    assert db.incrbyfloat("ratio", 0.5) == 0.5
    assert db.mset({"a": 1, "b": 2}) and db.mget("a", "b", "absent") == ["1", "2", None]
    assert db.append("a", "23") == 3 and db.getrange("a", 1, 2) == "23" and db.strlen("a") == 3
    assert db.set("short", "x", ex=100) and 90 < db.ttl("short") <= 100
    assert db.persist("short") is True and db.ttl("short") == -1 and db.ttl("absent") == -2
    assert db.type("a") == "string" and db.rename("a", "z") and db.copy("z", "y") is True
    assert db.getdel("y") == "123" and db.delete("z", "b") == 2
    raw = redis.Redis(port=PORT, protocol=PROTOCOL)
    every_byte = bytes(range(256)) * 300
    assert raw.set(b"\x00\xff", every_byte) and raw.get(b"\x00\xff") == every_byte
    refuses(redis.ResponseError, "not an integer", lambda: db.incr("name"))
    refuses(redis.ResponseError, "WRONGTYPE", lambda: db.hget("name", "f"))
    refuses(redis.ResponseError, "unknown command 'NOPE'", lambda: db.execute_command("NOPE"))


def hashes():
    assert db.hset("user:1", mapping={"name": "Ada", "born": 1815, "field": "maths"}) == 3
    assert db.hset("user:1", "born", 1816) == 0 and db.hincrby("user:1", "born", -1) == 1815
    assert db.hgetall("user:1") == {"name": "Ada", "born": "1815", "field": "maths"}
    assert db.hmget("user:1", "name", "absent") == ["Ada", None]
    assert sorted(db.hkeys("user:1")) == ["born", "field", "name"] and db.hlen("user:1") == 3
    assert db.hexists("user:1", "name") is True and db.hdel("user:1", "field", "absent") == 1
    assert dict(db.hscan_iter("user:1")) == {"name": "Ada", "born": "1815"}
    assert db.hsetnx("user:1", "name", "Eve") == 0


def field_expiry():
    db.hset("session", mapping={"token": "t", "cart": "c", "keep": "k"})
    assert db.hexpire("session", 100, "token", "absent") == [1, -2]
    assert 90 < db.httl("session", "token")[0] <= 100 and db.httl("session", "keep") == [-1]
    assert db.hpersist("session", "token") == [1]
    assert db.hpexpire("session", 30, "cart") == [1]
    until(lambda: not db.hexists("session", "cart"))
    assert db.hgetall("session") == {"token": "t", "keep": "k"}
    db.pexpire("session", 30)
    until(lambda: not db.exists("session"))


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "this should have happened by now"
        time.sleep(0.005)


def pipelines_and_transactions():
    with db.pipeline(transaction=False) as pipe:
        for number in range(1000):
            pipe.set(f"pipe:{number}", number)
        assert pipe.execute() == [True] * 1000
    with db.pipeline() as pipe:
        pipe.set("t", 1).incr("t").hset("th", "f", "v").get("t")
        assert pipe.execute() == [True, 2, 1, "2"]
    with db.pipeline() as pipe:
        pipe.set("name", "x").incr("name").set("after", 1)
        refuses(redis.ResponseError, "not an integer", pipe.execute)
    assert db.get("after") == "1", "the others of a transaction are executed"

    with db.pipeline() as pipe:
        pipe.watch("t")
        db.set("t", 100)
        pipe.multi()
        pipe.set("t", 3)
        refuses(redis.WatchError, "Watched variable changed", pipe.execute)
    assert db.get("t") == "100"
    assert db.transaction(lambda pipe: pipe.multi() or pipe.incr("t"), "t") == [101]


def scans():
    keys = {f"scan:{number}" for number in range(3000)}
    db.mset({key: 1 for key in keys})
    assert set(db.scan_iter("scan:*", count=100)) == keys
    assert set(db.scan_iter("scan:*", _type="hash")) == set()
    assert set(db.keys("scan:1?")) == {f"scan:1{digit}" for digit in range(10)}
    assert db.dbsize() >= 3000 and db.randomkey() is not None
    assert db.unlink(*keys) == 3000


def connections():
    assert db.client_getname() == "basic-use"
    assert any(client["name"] == "basic-use" for client in db.client_list())
    info = db.info()
    assert info["redis_version"] and info["db0"]["keys"] > 0
    assert db.config_get("maxclients")["maxclients"].isdigit() and db.time()[0] > 1_700_000_000
    assert db.command()["get"]["arity"] == 2 and db.command_count() > 100
    other = redis.Redis(port=PORT, protocol=PROTOCOL, db=1, decode_responses=True)
    assert other.set("only-here", 1) and db.exists("only-here") == 0
    assert other.flushdb() and other.dbsize() == 0


def vector(*components):
    return struct.pack(f"<{len(components)}f", *components)


def search():
    raw = redis.Redis(port=PORT, protocol=PROTOCOL)
    index = db.ft("places")
    fields = [
        TagField("kind"),
        NumericField("height"),
        VectorField("at", "HNSW", {"TYPE": "FLOAT32", "DIM": 2, "DISTANCE_METRIC": "L2", "M": 16}),
    ]
    raw.hset("place:0", mapping={"kind": "hill", "height": 10, "at": vector(0, 0)})
    assert index.create_index(fields, definition=IndexDefinition(["place:"], index_type=IndexType.HASH))
    for number in range(1, 10):
        kind = "hill" if number % 2 else "lake"
        raw.hset(f"place:{number}", mapping={"kind": kind, "height": number, "at": vector(number, 0)})
    refuses(redis.ResponseError, "Index already exists", lambda: index.create_index(fields))

    def find(query, **parameters):
        found = index.search(query.dialect(2), query_params={"from": vector(6.4, 0), **parameters})
        # Over RESP3 redis-py hands the server's map on as it is.
        if isinstance(found, dict):
            return found["total_results"], [(row["id"], row.get("extra_attributes", {})) for row in found["results"]]
        return found.total, [(document.id, vars(document)) for document in found.docs]

    def ids(query, **parameters):
        return [id for id, _ in find(query, **parameters)[1]]

    nearest = Query("*=>[KNN 3 @at $from AS distance]").sort_by("distance").return_fields("distance", "kind")
    until(lambda: find(nearest)[0] == 3)
    total, found = find(nearest)
    assert total == 3 and [id for id, _ in found] == ["place:6", "place:7", "place:5"], found
    assert abs(float(found[0][1]["distance"]) - 0.16) < 1e-5 and found[0][1]["kind"] == "lake"
    filtered = Query("(@kind:{hill} @height:[2 6])=>[KNN 3 @at $from AS distance]").sort_by("distance").no_content()
    assert ids(filtered) == ["place:5", "place:3"]
    total, page = find(Query("@kind:{lake}").paging(1, 2).no_content())
    assert total == 4 and len(page) == 2
    assert find(Query("@height:[$low +inf]").no_content(), low=8)[0] == 3

    raw.hset("place:6", "at", vector(100, 0))
    raw.delete("place:7")
    assert ids(nearest) == ["place:5", "place:8", "place:4"]
    info = index.info()
    assert info["index_name"] == "places" and int(info["num_docs"]) == 9, info
    assert "places" in db.execute_command("FT._LIST")
    refuses(redis.ResponseError, "Syntax error", lambda: find(Query("@kind:{")))
    assert index.dropindex(delete_documents=True)
    assert db.exists("place:0") == 0
    refuses(redis.ResponseError, "Unknown index name", index.info)


db.flushall()
for part in [strings, hashes, field_expiry, pipelines_and_transactions, scans, connections, search]:
    part()
    print(f"{part.__name__}: as expected")
