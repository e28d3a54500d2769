"""redis-om's models on hashes and on JSON documents. Arguments: port."""

import os

from common import blob, done, embed, equal, port, url

os.environ["REDIS_OM_URL"] = url()

import datetime
from typing import List, Optional

import redis
from redis_om import EmbeddedJsonModel, Field, HashModel, JsonModel, KNNExpression, Migrator, NotFoundError, VectorFieldOptions

db = redis.Redis(port=port(), decode_responses=True)


class Customer(HashModel, index=True):
    name: str = Field(index=True, full_text_search=True)
    email: str = Field(index=True)
    age: int = Field(index=True, sortable=True)
    joined: datetime.date
    bio: Optional[str] = None

    class Meta:
        database = db


class Address(EmbeddedJsonModel, index=True):
    city: str = Field(index=True)
    code: int = Field(index=True)

    class Meta:
        database = db
        embedded = True


class Member(JsonModel, index=True):
    name: str = Field(index=True)
    age: int = Field(index=True, sortable=True)
    bio: str = Field(index=True, full_text_search=True, default="")
    address: Address
    tags: List[str] = Field(index=True)
    embedding: List[float] = Field([], index=True, vector_options=VectorFieldOptions.flat(
        type=VectorFieldOptions.TYPE.FLOAT32, dimension=32, distance_metric=VectorFieldOptions.DISTANCE_METRIC.COSINE))

    embedding_score: Optional[float] = None

    class Meta:
        database = db


Migrator().run()
people = [("Ann Holm", "ann@here", 30), ("Bob Rust", "bob@here", 45), ("Cho Li", "cho@there", 61)]
customers = [Customer(name=name, email=email, age=age, joined=datetime.date(2020, 1, 2)) for name, email, age in people]
for customer in customers:
    customer.save()
equal(Customer.get(customers[0].pk).joined, datetime.date(2020, 1, 2))


def names(query):
    return [found.name for found in query.all()]


equal(names(Customer.find(Customer.name == "Bob Rust")), ["Bob Rust"])
equal(names(Customer.find((Customer.age > 40) & (Customer.email == "cho@there"))), ["Cho Li"])
equal(sorted(names(Customer.find((Customer.age < 40) | (Customer.name == "Cho Li")))), ["Ann Holm", "Cho Li"])
equal(names(Customer.find(Customer.name % "Holm")), ["Ann Holm"])
equal(names(Customer.find(Customer.age >= 30).sort_by("-age")), ["Cho Li", "Bob Rust", "Ann Holm"])
equal(Customer.find().count(), 3)
customers[0].update(age=31)
equal(Customer.get(customers[0].pk).age, 31)
customers[2].expire(100)
assert 0 < db.ttl(customers[2].key()) <= 100
Customer.delete(customers[1].pk)
try:
    Customer.get(customers[1].pk)
    raise AssertionError("it was deleted")
except NotFoundError:
    pass
equal(names(Customer.find(Customer.email == "bob@here")), [])
Customer.delete_many(customers)

members = [
    Member(name="Ann", age=30, bio="paints boats", address=Address(city="Oslo", code=1), tags=["a", "b"], embedding=embed("boats").tolist()),
    Member(name="Bob", age=40, bio="repairs boats", address=Address(city="Bergen", code=2), tags=["b"], embedding=embed("repairs").tolist()),
    Member(name="Cho", age=50, bio="writes", address=Address(city="Oslo", code=3), tags=["c"], embedding=embed("papers").tolist()),
]
for member in members:
    member.save()
equal(Member.get(members[0].pk).address.city, "Oslo")
equal(sorted(names(Member.find(Member.address.city == "Oslo"))), ["Ann", "Cho"])
equal(names(Member.find((Member.tags << ["b"]) & (Member.age > 35))), ["Bob"])
equal(sorted(names(Member.find(Member.bio % "boats"))), ["Ann", "Bob"])
equal(names(Member.find(~(Member.address.city == "Oslo"))), ["Bob"])
knn = KNNExpression(
    k=1, vector_field=Member.embedding, score_field=Member.embedding_score, reference_vector=blob("papers")
)
equal([found.name for found in Member.find(knn=knn).all()], ["Cho"])
members[1].address.city = "Oslo"
members[1].save()
equal(Member.find(Member.address.city == "Oslo").count(), 3)
Member.find(Member.age < 45).delete()
equal([Member.get(pk).name for pk in Member.all_pks()], ["Cho"])
Member.delete(members[2].pk)
equal(list(Member.all_pks()), [])
done()
