"""valkey-glide and its search module. Arguments: port."""

import asyncio

from glide import GlideClient, GlideClientConfiguration, NodeAddress, ft as async_ft
from glide_shared.commands.server_modules.ft_options.ft_create_options import (
    DataType,
    DistanceMetricType,
    FtCreateOptions,
    NumericField,
    TagField,
    VectorAlgorithm,
    VectorField,
    VectorFieldAttributesHnsw,
    VectorType,
)
from glide_shared.commands.server_modules.ft_options.ft_search_options import FtSearchLimit, FtSearchOptions, ReturnField

from common import blob, done, equal, near, port


async def glide():
    client = await GlideClient.create(GlideClientConfiguration([NodeAddress("127.0.0.1", port())]))
    attributes = VectorFieldAttributesHnsw(dimensions=32, distance_metric=DistanceMetricType.COSINE, type=VectorType.FLOAT32)
    schema = [TagField("colour"), NumericField("price"), VectorField("embedding", VectorAlgorithm.HNSW, attributes)]
    equal(await async_ft.create(client, "goods", schema, FtCreateOptions(DataType.HASH, ["good:"])), "OK")
    goods = [("red shirt", "red", "10"), ("red hat", "red", "25"), ("blue hat", "blue", "30")]
    for number, (name, colour, price) in enumerate(goods):
        fields = {"name": name, "colour": colour, "price": price, "embedding": blob(name)}
        equal(await client.hset(f"good:{number}", fields), 4)

    async def search(query, *returned, parameters=None):
        options = FtSearchOptions(
            params=parameters, return_fields=[ReturnField(name) for name in returned], limit=FtSearchLimit(0, 10)
        )
        total, rows = await async_ft.search(client, "goods", query, options)
        return total, {key.decode(): {name.decode(): value.decode() for name, value in row.items()} for key, row in rows.items()}

    total, rows = await search("@colour:{red} @price:[20 +inf]", "name")
    equal((total, rows), (1, {"good:1": {"name": "red hat"}}))
    total, rows = await search("*=>[KNN 2 @embedding $q AS distance]", "name", "distance", parameters={"q": blob("blue hat")})
    equal(list(rows), ["good:2", "good:1"])
    near(rows["good:2"]["distance"], 0)
    total, rows = await search("@colour:{red}=>[KNN 1 @embedding $q AS distance]", "name", parameters={"q": blob("hat")})
    equal(list(rows), ["good:1"])
    equal(await client.delete(["good:1"]), 1)
    equal((await search("@colour:{red}", "name"))[0], 1)
    equal(await async_ft.list(client), [b"goods"])
    info = await async_ft.info(client, "goods")
    equal(info[b"index_name"], b"goods")
    equal(int(info[b"num_docs"]), 2)
    equal(await async_ft.dropindex(client, "goods"), "OK")
    equal(await client.delete(["good:0", "good:2"]), 2)
    await client.close()


asyncio.run(glide())
done()
