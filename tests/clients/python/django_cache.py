"""django-redis: Django's cache and sessions, locks, patterns, counters and sets. Arguments: port."""

import threading

import django
from django.conf import settings

from common import done, equal, port, refused, url

CACHE = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"{url()}/1", "KEY_PREFIX": "site"}
settings.configure(
    CACHES={
        "default": {**CACHE, "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"}},
        "small": {
            **CACHE,
            "KEY_PREFIX": "small",
            "OPTIONS": {
                "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
                "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            },
        },
    },
    INSTALLED_APPS=["django.contrib.sessions"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SECRET_KEY="of a test",
    USE_TZ=True,
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache, caches
from django_redis import get_redis_connection

assert cache.set("name", {"a": [1, 2]}, timeout=100)
equal(cache.get("name"), {"a": [1, 2]})
assert 0 < cache.ttl("name") <= 100
equal((cache.get("nosuch"), cache.get("nosuch", "other"), cache.ttl("nosuch")), (None, "other", 0))
equal((cache.add("name", 1), cache.add("fresh", 1), cache.has_key("fresh")), (False, True, True))
equal((cache.incr("fresh"), cache.incr("fresh", 10), cache.decr("fresh", 2)), (2, 12, 10))
refused(ValueError, lambda: cache.incr("nosuch"), "not found")
cache.set_many({"a": 1, "b": "two"}, timeout=60)
equal(cache.get_many(["a", "b", "c"]), {"a": 1, "b": "two"})
equal(cache.get_or_set("made", lambda: 42, 60), 42)
equal((cache.touch("a", 500), cache.ttl("a") > 60), (True, True))
assert cache.persist("a") and cache.ttl("a") is None
assert cache.expire("a", timeout=10) and cache.pexpire("a", timeout=10_500) and 10_000 < cache.pttl("a") <= 10_500
equal(cache.get("a", version=2), None)
cache.incr_version("a")
equal((cache.get("a"), cache.get("a", version=2)), (None, 1))
equal(sorted(cache.keys("*")), ["b", "fresh", "made", "name"])
for number in range(500):
    cache.set(f"page:{number}", number)
equal(len(list(cache.iter_keys("page:*", itersize=50))), 500)
equal(cache.delete_pattern("page:*", itersize=100), 500)
equal((cache.delete("b"), cache.delete("b"), cache.delete_many(["fresh", "made"])), (True, False, 2))
cache.set("nx", 1, nx=True, timeout=None)
equal(bool(cache.set("nx", 2, nx=True)), False)

found = []


def add_one():
    for _ in range(20):
        with cache.lock("lock", timeout=10):
            value = cache.get("count", 0)
            cache.set("count", value + 1)
    found.append(True)


threads = [threading.Thread(target=add_one) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
equal((len(found), cache.get("count")), (4, 80))

equal((cache.sadd("tags", "a", "b", "c"), cache.scard("tags"), cache.smembers("tags")), (3, 3, {"a", "b", "c"}))
cache.sadd("others", "b", "x")
equal((cache.sinter("tags", "others"), cache.sdiff("tags", "others")), ({"b"}, {"a", "c"}))
equal((cache.sismember("tags", "a"), cache.srem("tags", "a"), cache.sismember("tags", "a")), (True, 1, False))
equal((cache.hset("hash", "field", 1), cache.hexists("hash", "field"), cache.hkeys("hash")), (1, True, ["field"]))

small = caches["small"]
small.set("long", ["text " * 1000])
equal(small.get("long"), ["text " * 1000])
raw = get_redis_connection("small")
assert raw.strlen("small:1:long") < 1000

session = SessionStore()
session["user"] = "Ann"
session.set_expiry(300)
session.save()
again = SessionStore(session_key=session.session_key)
equal((again["user"], again.exists(session.session_key)), ("Ann", True))
again.cycle_key()
equal(SessionStore(session_key=session.session_key).get("user"), None)
equal(SessionStore(session_key=again.session_key)["user"], "Ann")
again.delete()
equal(SessionStore(session_key=again.session_key).get("user"), None)
cache.clear()
equal(raw.dbsize(), 0)
done()
