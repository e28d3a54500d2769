"""A recommender: films near what somebody liked, that are available, recent enough and not seen yet. Arguments: port."""

import sys

import numpy as np
import redis

from minilm import DIMENSIONS, MiniLM

FILMS = [
    ("Dust Lane", 1999, "se|no", "A crew repairs a ship that drifts between the stars."),
    ("The Long Orbit", 2014, "se|dk", "An astronaut alone on a station talks to Earth."),
    ("Red Planet Garden", 2015, "se|no|dk", "A botanist grows food on Mars after his crew left him."),
    ("Old Harbour", 2003, "dk", "Two fishermen quarrel over a boat."),
    ("Letters from June", 2018, "se", "A widow falls in love with her postman."),
    ("Second Moon", 2021, "no|dk", "Miners on a moon find something that is alive."),
    ("The Baker's Son", 2010, "se|no", "A boy inherits a bakery and his father's debts."),
    ("Signal", 2022, "se|no|dk", "Astronomers answer a message from another star."),
]
PREFERENCES = {"likes": ["Red Planet Garden", "The Long Orbit"], "dislikes": ["Letters from June"]}

db, embed = redis.Redis(port=int(sys.argv[1]), decode_responses=True), MiniLM()
vector = ["VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", DIMENSIONS, "DISTANCE_METRIC", "COSINE"]
schema = ["country", "TAG", "SEPARATOR", "|", "year", "NUMERIC", "title", "TAG", "plot", *vector]
db.execute_command("FT.CREATE", "films", "PREFIX", 1, "film:", "SCHEMA", *schema)
plots = {}
for title, year, country, plot in FILMS:
    plots[title] = embed(plot)
    db.hset(f"film:{title}", mapping={"title": title, "year": year, "country": country, "plot": plots[title].tobytes()})


def recommend(country, since, count):
    """Films near the mean of the liked ones and away from the disliked ones."""
    seen = PREFERENCES["likes"] + PREFERENCES["dislikes"]
    taste = np.mean([plots[title] for title in PREFERENCES["likes"]], axis=0)
    taste = taste - 0.3 * np.mean([plots[title] for title in PREFERENCES["dislikes"]], axis=0)
    not_seen = " ".join(f'-@title:{{"{title}"}}' for title in seen)
    query = f"(@country:{{{country}}} @year:[{since} +inf] {not_seen})=>[KNN {count} @plot $taste AS distance]"
    options = ["PARAMS", 2, "taste", taste.astype("<f4").tobytes(), "SORTBY", "distance", "NOCONTENT", "DIALECT", 2]
    reply = db.execute_command("FT.SEARCH", "films", query, *options)
    rows = reply["results"] if isinstance(reply, dict) else [{"id": key} for key in reply[1:]]
    return [row["id"].removeprefix("film:") for row in rows]


for country, since, wanted in [("se", 1990, {"Signal", "Dust Lane"}), ("no", 2020, {"Signal", "Second Moon"})]:
    found = recommend(country, since, 2)
    print(f"available in {country}, since {since}: {', '.join(found)}")
    assert set(found) == wanted, found
db.execute_command("FT.DROPINDEX", "films", "DD")
print("all as expected")
