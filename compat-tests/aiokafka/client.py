"""aiokafka against Waybill: one task, given as JSON in the only argument. See ../README.md."""

import asyncio
import base64
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.helpers import create_ssl_context

STALL_S = 60
# Room for a record of 10 MB: the producer refuses larger ones before it asks a broker.
RECORD_BYTES_MAX = 12_000_000


async def main():
    task = json.loads(sys.argv[1])
    await {"produce": produce, "consume": consume, "group": group, "admin": admin}[task["do"]](task)


def connection(task, bootstrap=None):
    """What every kind of client needs: where the cluster is and how to log in."""
    settings = {"bootstrap_servers": bootstrap or task["bootstrap"]}
    security = task.get("security")
    if security:
        settings["security_protocol"] = security["protocol"]
        if "ca" in security:
            settings["ssl_context"] = create_ssl_context(cafile=security["ca"])  # host names are verified by default
        if "mechanism" in security:
            settings["sasl_mechanism"] = security["mechanism"]
            settings["sasl_plain_username"] = security["username"]  # for SCRAM too
            settings["sasl_plain_password"] = security["password"]
    return settings


# Produce


async def produce(task):
    # `send` takes no record without both key and value: it raises.
    codec = None if task["codec"] == "none" else task["codec"]
    async with new_producer(task, task["bootstrap"], codec, task.get("idempotent", False)) as producer:
        futures = []
        for line in open(task["records"]):
            record = json.loads(line)
            # `send` waits for room in the accumulator; the future that it gives, for the acknowledgement.
            future = await producer.send(
                task["topic"],
                partition=record["partition"],
                timestamp_ms=record["timestamp"],
                key=decoded(record["key"]),
                value=decoded(record["value"]),
                headers=[(name, decoded(value)) for name, value in record["headers"]],
            )
            futures.append(future)
        delivered = [await asyncio.wait_for(future, STALL_S) for future in futures]
    write_lines(task["out"], [{"partition": each.partition, "offset": each.offset} for each in delivered])


def new_producer(task, bootstrap, codec=None, idempotent=False):
    return AIOKafkaProducer(
        **connection(task, bootstrap),
        acks="all",
        compression_type=codec,
        enable_idempotence=idempotent,
        max_request_size=RECORD_BYTES_MAX,
    )


# Consume


async def consume(task):
    partitions = [TopicPartition(task["topic"], partition) for partition in range(task["partitions"])]
    lines, stall = [], Stall("the first record")
    async with new_consumer(task) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while len(lines) < task["count"]:
            for record in await next_records(consumer, timeout_ms=1000):
                lines.append(
                    {
                        "partition": record.partition,
                        "offset": record.offset,
                        "timestamp": record.timestamp,
                        "key": encoded(record.key),
                        "value": encoded(record.value),
                        "headers": [[name, encoded(value)] for name, value in record.headers],
                    }
                )
                stall = Stall(f"more than {len(lines)} of {task['count']} records")
            stall.check()
    write_lines(task["out"], lines)


def new_consumer(task, group_id=None):
    return AIOKafkaConsumer(
        **connection(task),
        group_id=group_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=RECORD_BYTES_MAX,
    )


async def next_records(consumer, timeout_ms):
    by_partition = await consumer.getmany(timeout_ms=timeout_ms)
    return [record for records in by_partition.values() for record in records]


# Group


async def group(task):
    topic, partitions, count = task["topic"], task["partitions"], task["count"]
    producer = new_producer(task, task["produce_bootstrap"])
    await producer.start()

    async def produce_numbers(numbers):
        futures = [await producer.send(topic, str(number).encode(), partition=number % partitions) for number in numbers]
        await asyncio.wait_for(asyncio.gather(*futures), STALL_S)

    await produce_numbers(range(count))
    first = await Member.join(task)
    alone = first.read
    await poll_until([first], lambda: seen(alone) == count, "the first member's records")
    result = {"first": first.partitions()}
    await first.consumer.commit()

    second = await Member.join(task)
    first.read = shared_first = []
    await poll_until([first, second], lambda: divided([first, second], partitions), "both members to have partitions")
    result["shared"] = [first.partitions(), second.partitions()]
    await produce_numbers(range(count, 2 * count))
    await poll_until([first, second], lambda: seen(shared_first, second.read) == count, "the records of both members")
    await first.consumer.commit()
    await second.consumer.commit()

    await second.consumer.stop()  # leaves the group
    first.read = after = []
    await poll_until([first], lambda: divided([first], partitions), "the first member to have all partitions")
    result["after"] = first.partitions()
    await produce_numbers(range(2 * count, 3 * count))
    await poll_until([first], lambda: seen(after) == count, "the last records")
    await first.consumer.commit()
    await first.consumer.stop()
    await producer.stop()
    write_lines(task["out"], [{**result, "read": [alone, shared_first, second.read, after]}])


class Member:
    """A consumer in the group, and the numbers that it was given since the list was last replaced."""

    @classmethod
    async def join(cls, task):
        """Subscribes. `start` would wait for the first assignment, during which nobody else is read: so it runs before."""
        member = cls()
        member.consumer, member.read = new_consumer(task, task["group"]), []
        await member.consumer.start()
        member.consumer.subscribe([task["topic"]])
        return member

    def partitions(self):
        return sorted(each.partition for each in self.consumer.assignment())

    async def poll(self):
        """A task of the client's own carries the member through rebalances; this only takes what has come."""
        records = await next_records(self.consumer, timeout_ms=20)
        self.read.extend(int(record.value) for record in records)
        return bool(records)


async def poll_until(members, done, what):
    stall = Stall(what)
    while not done():
        if any([await member.poll() for member in members]):
            stall = Stall(what)
        stall.check()


def seen(*reads):
    """How many different numbers have come."""
    return len(set().union(*reads))


def divided(members, partitions):
    """Whether every member has partitions, and together each one once."""
    held = [member.partitions() for member in members]
    return all(held) and sorted(sum(held, [])) == list(range(partitions))


# Admin


async def admin(task):
    """This client has no call that deletes a group: `group_deleted` is left out."""
    client, topic, group_id = AIOKafkaAdminClient(**connection(task)), task["topic"], task["group"]
    await client.start()
    out = {}
    new_topic = NewTopic(topic, num_partitions=task["partitions"], replication_factor=1, topic_configs=task["config"])
    raise_for(topic_error((await client.create_topics([new_topic])).topic_errors))
    out["created"] = True
    out["created_again"] = topic_error((await client.create_topics([new_topic])).topic_errors)

    out["listed"] = topic in await client.list_topics()
    (described,) = await client.describe_topics([topic])
    out["partitions"] = len(described["partitions"])
    out["nodes"] = len((await client.describe_cluster())["brokers"])
    out["config"] = await topic_config(client, topic, list(task["config"]))
    # Offsets are asked of a consumer, not of the admin client.
    async with new_consumer(task) as consumer:
        asked = [TopicPartition(topic, partition) for partition in range(task["partitions"])]
        earliest, latest = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
    out["earliest"] = [earliest[partition] for partition in asked]
    out["latest"] = [latest[partition] for partition in asked]

    out["groups"] = group_id in [name for name, *_ in await client.list_consumer_groups()]
    (response,) = await client.describe_consumer_groups([group_id])
    (error_code, _, state, *_) = response.groups[0]
    raise_for(error_code)
    out["group_state"] = state
    committed = await client.list_consumer_group_offsets(group_id)
    out["group_offsets"] = {str(partition.partition): at.offset for partition, at in committed.items()}

    raise_for(topic_error((await client.delete_topics([topic])).topic_error_codes))
    out["deleted"] = True
    stall = Stall("the topic to be gone")
    while topic in await client.list_topics():
        stall.check()
        await asyncio.sleep(0.1)
    out["gone"] = True
    await client.close()
    write_lines(task["out"], [out])


def topic_error(answers):
    """The admin client gives the broker's answer as it came: the error code of the one topic that was named."""
    (answer,) = answers
    return answer[1]


def raise_for(error_code):
    if error_code:
        raise for_code(error_code)()


async def topic_config(client, topic, keys):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(keys))
    (response,) = await client.describe_configs([resource])
    ((error_code, _, _, _, entries),) = response.resources
    raise_for(error_code)
    return {name: value for name, value, *_ in entries}


# Small things


class Stall:
    """A limit on waiting without progress."""

    def __init__(self, what):
        self.what, self.deadline = what, time.monotonic() + STALL_S

    def check(self):
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"no progress in {STALL_S} s: waiting for {self.what}")


def decoded(text):
    return None if text is None else base64.b64decode(text)


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def write_lines(path, items):
    with open(path, "w") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)


if __name__ == "__main__":
    asyncio.run(main())
