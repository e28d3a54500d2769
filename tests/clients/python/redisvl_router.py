"""RedisVL's semantic router, whose configuration is a JSON document, and an index on JSON. Arguments: port."""

import redis
from redisvl.extensions.router import Route, SemanticRouter
from redisvl.index import SearchIndex
from redisvl.query import FilterQuery, VectorQuery
from redisvl.query.filter import Num, Tag
from redisvl.utils.vectorize import CustomVectorizer

from common import done, embed, equal, port, url

vectorizer = CustomVectorizer(embed=lambda text, **_: embed(text).tolist())
routes = [
    Route(name="weather", references=["will it rain tomorrow", "how warm is it"], distance_threshold=0.5),
    Route(name="food", references=["what is for dinner", "a recipe for bread"], distance_threshold=0.5),
]
router = SemanticRouter(name="router", vectorizer=vectorizer, routes=routes, redis_url=url(), overwrite=True)
equal(router("will it rain today").name, "weather")
equal(router("a recipe for dark bread").name, "food")
equal(router("compile the kernel").name, None)
equal([match.name for match in router.route_many("how warm is bread", max_k=2, distance_threshold=1.5)][0], "weather")
router.add_route_references("food", references=["compile the menu"])
equal(router("compile the menu").name, "food")
stored = redis.Redis(port=port()).json().get("router:route_config")
equal([route["name"] for route in stored["routes"]], ["weather", "food"])
router.remove_route("food")
equal(router("a recipe for bread").name, None)
router.delete()

schema = {
    "index": {"name": "cars", "prefix": "car", "storage_type": "json"},
    "fields": [
        {"name": "make", "type": "tag", "path": "$.make"},
        {"name": "doors", "type": "numeric", "path": "$.body.doors"},
        {"name": "colours", "type": "tag", "path": "$.colours[*]"},
        {
            "name": "embedding",
            "type": "vector",
            "path": "$.embedding",
            "attrs": {"algorithm": "hnsw", "dims": 32, "distance_metric": "ip", "datatype": "float32"},
        },
    ],
}
index = SearchIndex.from_dict(schema, redis_url=url())
index.create(overwrite=True)
cars = [("saab", 3, ["green", "black"]), ("volvo", 5, ["blue"]), ("fiat", 3, ["blue", "red"])]
index.load(
    [
        {"make": make, "body": {"doors": doors}, "colours": colours, "embedding": embed(make).tolist()}
        for make, doors, colours in cars
    ],
    id_field="make",
)
equal(index.fetch("fiat")["body"]["doors"], 3)
found = index.query(FilterQuery((Num("doors") == 3) & (Tag("colours") == "blue"), return_fields=["make"]))
equal([row["make"] for row in found], ["fiat"])
found = index.query(VectorQuery(embed("volvo").tolist(), "embedding", return_fields=["make", "$.body.doors"], num_results=1))
equal([row["make"] for row in found], ["volvo"])
index.delete(drop=True)
equal(redis.Redis(port=port()).dbsize(), 0)
done()
