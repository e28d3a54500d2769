"""Flask-Session: sessions of several browsers, which expire, are changed and are dropped. Arguments: port."""

from flask import Flask, request, session
from flask_session import Session
from redis import Redis

from common import done, equal, port

db = Redis(port=port())
app = Flask("sessions")
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=db, PERMANENT_SESSION_LIFETIME=600, SESSION_KEY_PREFIX="web:")
Session(app)


@app.post("/basket")
def put():
    session.setdefault("basket", []).append(request.form["item"])
    session.modified = True
    return ""


@app.get("/basket")
def get():
    return ",".join(session.get("basket", []))


@app.post("/leave")
def leave():
    session.clear()
    return ""


ann, bob = app.test_client(), app.test_client()
for item in ["bread", "tea"]:
    ann.post("/basket", data={"item": item})
bob.post("/basket", data={"item": "ink"})
equal((ann.get("/basket").text, bob.get("/basket").text), ("bread,tea", "ink"))
keys = list(db.scan_iter("web:*"))
equal(len(keys), 2)
assert all(0 < db.ttl(key) <= 600 for key in keys)
ann.post("/leave")
equal((ann.get("/basket").text, bob.get("/basket").text, len(list(db.scan_iter("web:*")))), ("", "ink", 1))
db.delete(*db.keys("web:*"))
equal(bob.get("/basket").text, "")
done()
